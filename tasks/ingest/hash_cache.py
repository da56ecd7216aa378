"""Perceptual hashes of source files by their digest, so that no picture is decoded twice for its hash.

Like the cache of digests it enters no key: losing it costs time and nothing else. A private corpus's digests are keyed
(`tasks.ingest.corpus_listing`); its hashes are those that its index holds too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.digest import digest_of
from infra.storage.store import MissingObjectError, Store
from tasks.ingest.image_table import as_text, mask

FORMULA = 1
"""Of the hash: raised when `tasks.ingest.near_duplicates.perceptual_hash` or what it is taken of changes."""

SCHEMA = pa.schema([("sha256", pa.string()), ("recipe", pa.string()), ("phash", pa.binary())])
_OF_PICTURE = ("size", "crop", "mask", "bits")  # fields of a recipe that say which picture is hashed


class HashCache:
    """Digest of a file to the hash of what is stored of it.

    Args:
        title: of the corpus.
        recipe: fields of ImageRecipe: another size or crop makes another picture.
        private: whether digests are keyed.
    """

    def __init__(self, store: Store, title: str, recipe: Mapping[str, Any], *, private: bool) -> None:
        self._plain, keyed = _names(title)
        self._store, self._name, self._private = store, keyed if private else self._plain, private
        keeps = {"keep": recipe["encode"] == "keep"}
        self._recipe = digest_of([FORMULA, {name: recipe.get(name) for name in _OF_PICTURE} | keeps])[:16]
        self._others = SCHEMA.empty_table()
        self._known: dict[str, bytes] = {}
        self._changed = False

    def load(self) -> None:
        """Read what is known; nothing where it is lost or damaged."""
        try:
            table = pq.read_table(io.BytesIO(self._store.get(self._name))).select(SCHEMA.names).cast(SCHEMA)
        except (MissingObjectError, pa.ArrowInvalid, KeyError):
            return
        own = pc.equal(table["recipe"], self._recipe)
        self._others = table.filter(pc.invert(own))
        table = table.filter(own)
        self._known = dict(zip(table["sha256"].to_pylist(), table["phash"].to_pylist(), strict=True))

    def get(self, sha: str) -> bytes | None:
        """The hash of the file with that digest; None where it is not known."""
        return self._known.get(sha)

    def add(self, hashes: Mapping[str, bytes]) -> None:
        """Remember hashes by digest; `save` writes them."""
        self._known.update(hashes)
        self._changed = self._changed or bool(hashes)

    def save(self) -> None:
        """Write it to the store, if there is something new."""
        if not self._changed:
            return
        own = pa.table(
            [list(self._known), [self._recipe] * len(self._known), list(self._known.values())], schema=SCHEMA
        )
        sink = io.BytesIO()
        table = pa.concat_tables([self._others, own]).sort_by([("recipe", "ascending"), ("sha256", "ascending")])
        pq.write_table(table, sink, compression="zstd")
        self._store.put(self._name, sink.getvalue())
        if self._private:
            # Of before the corpus became private: digests that are not keyed.
            self._store.delete(self._plain)
        self._changed = False


def erase_hashes(store: Store, title: str, rows: pa.Table) -> None:
    """Drop the hashes of some images of a catalog."""
    digests = as_text(rows["source_sha256"])
    for name in _names(title):
        try:
            known = pq.read_table(io.BytesIO(store.get(name)))
        except MissingObjectError:
            continue
        gone = mask(pc.is_in(known["sha256"], value_set=digests))
        if gone.any():
            sink = io.BytesIO()
            pq.write_table(known.filter(pa.array(~gone)), sink, compression="zstd")
            store.put(name, sink.getvalue())


def _names(title: str) -> tuple[str, str]:
    """Where the cache lies, and where it does of a private corpus."""
    return f"listings/{title}.hashes.parquet", f"listings/{title}.hashes.keyed.parquet"
