"""Tombstones: what was erased on request, and must not be ingested again.

A tombstone names nobody. It holds HMAC-SHA256 of patients, paths, keys and digests as the catalog has them, under a
salt that lies beside them; of a private corpus the catalog has keyed hashes, so that only who holds the secret can ask
whether somebody was erased. Of other corpora whoever has the store can try names one after another.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import sha256_bytes
from infra.errors import CorruptError
from infra.storage.manifest import seal, unseal
from infra.storage.store import Store

FOLDER = "forgotten/"
PENDING = "pending.json"
"""Beside the tombstones of a corpus while an erasure is not finished."""

COLUMNS = ("patient", "source", "key", "source_sha256")
"""Of the catalog; each is a kind of entry."""

_SALT = 16  # bytes


@dataclass(frozen=True)
class Tombstones:
    """Everything that was erased of one corpus: by salt, by column, hexadecimal HMACs."""

    entries: Mapping[str, Mapping[str, frozenset[str]]]

    @classmethod
    def read(cls, store: Store, title: str) -> Tombstones:
        """All tombstones of a corpus.

        Raises:
            CorruptError: one is damaged, so that what was erased might be ingested again.
        """
        found: dict[str, dict[str, frozenset[str]]] = {}
        for name in tombstone_names(store, title):
            raw = parse_tombstone(store.get(name), name)
            own = found.setdefault(raw["salt"], {})
            for column, values in raw["entries"].items():
                own[column] = own.get(column, frozenset()) | frozenset(values)
        return cls(found)

    @classmethod
    def of(cls, values: Mapping[str, Collection[str]]) -> Tombstones:
        """The tombstones that `write_tombstone` would leave, in memory alone."""
        salt = secrets.token_hex(_SALT)
        return cls({salt: {column: frozenset(own) for column, own in _entries(salt, values).items()}})

    def __bool__(self) -> bool:
        return bool(self.entries)

    def matches(self, table: Mapping[str, pa.Array] | pa.Table) -> np.ndarray:
        """Rows that were erased.

        A patient, a path and a digest count wherever they stand; a key only in rows without a path, because another
        file may get the key of one that was erased.

        Args:
            table: columns `COLUMNS` of text [N].

        Returns:
            bool [N].
        """
        found = np.zeros(len(table["key"]), bool)
        if not self:
            return found
        pathless = _mask(pc.equal(table["source"], ""))
        for name in COLUMNS:
            erased = pa.array(self.erased(name, table[name].unique().to_pylist()), pa.string())
            rows = _mask(pc.is_in(table[name], value_set=erased))
            found |= rows & pathless if name == "key" else rows
        return found

    def erased(self, column: str, values: Iterable[str]) -> list[str]:
        """Those of some values of a column that were erased."""
        lists = [(salt, own[column]) for salt, own in self.entries.items() if own.get(column)]
        return [v for v in values if v and any(_hmac(salt, column, v) in erased for salt, erased in lists)]


def write_tombstone(store: Store, title: str, values: Mapping[str, Collection[str]]) -> None:
    """Leave a tombstone, under the salt of the corpus's first one.

    Args:
        values: by column, what was erased; blanks are left out.
    """
    names = tombstone_names(store, title)
    salt = parse_tombstone(store.get(names[0]), names[0])["salt"] if names else secrets.token_hex(_SALT)
    data = seal({"title": title, "salt": salt, "entries": _entries(salt, values)})
    store.put(f"{FOLDER}{title}/{sha256_bytes(data)}.json", data)


def tombstone_names(store: Store, title: str) -> list[str]:
    """Names of the corpus's tombstones, sorted."""
    folder = f"{FOLDER}{title}/"
    return sorted(name for name in store.sizes(folder) if name != f"{folder}{PENDING}")


def parse_tombstone(data: bytes, name: str) -> dict[str, Any]:
    """Its content; CorruptError where it is damaged or not under its digest."""
    raw = unseal(data, name)
    if name.rpartition("/")[2] != f"{sha256_bytes(data)}.json" or set(raw) != {"title", "salt", "entries"}:
        raise CorruptError(f"{name}: damaged: no record of an erasure; restore it from a backup of the store")
    return raw


def _entries(salt: str, values: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    return {
        column: sorted(_hmac(salt, column, value) for value in {*values.get(column, ())} - {""}) for column in COLUMNS
    }


def _mask(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _hmac(salt: str, column: str, value: str) -> str:
    message = f"{column}:{value}".encode("utf-8", "surrogateescape")
    return hmac.digest(bytes.fromhex(salt), message, "sha256").hex()
