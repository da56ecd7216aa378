"""What is to be erased: patients and images as a person names them, found in the catalogs of a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorruptError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.catalog import table_of
from tasks.data.tombstones import COLUMNS, Tombstones
from tasks.ingest.image_table import as_text
from tasks.ingest.keys import KeyedHasher
from tasks.ingest.secret import FACT as SECRET_FACT
from tasks.ingest.secret import digest_of_secret, known_secret
from tasks.ingest.shard import STAGE as INGEST
from tasks.maintenance.store_contents import UNITS, StoreContents

_SHOWN = 10


@dataclass
class Erasure:
    """What tombstones of one corpus are to hold: by column of the catalog, values."""

    values: dict[str, set[str]] = field(default_factory=lambda: {column: set() for column in COLUMNS})

    def add(self, rows: pa.Table, *, patients: Sequence[str] = ()) -> None:
        """Images of the catalog; their patients only where the patients themselves are to be erased."""
        for column in ("source", "key", "source_sha256"):
            self.values[column].update(as_text(rows[column]).to_pylist())
        self.values["patient"].update(patients)


@dataclass(frozen=True)
class _Wanted:
    column: str
    names: frozenset[str]  # as catalogs may have it
    number: int  # among the patients, or among the keys, of the request


def find_requested(
    store: Store, contents: StoreContents, *, patients: Sequence[str], keys: Sequence[str], corpus: str | None
) -> dict[str, Erasure]:
    """The images of patients, and single images, in all catalogs of a store; by corpus.

    Args:
        patients: as the corpus's tables name them, or as the catalog of a private corpus does.
        keys: of images, or paths below the corpus's root.
        corpus: title of the only corpus to look at; default all.

    Raises:
        UsageError: somebody is in no corpus, or in several and none is named; nothing was erased.
        CorruptError: a catalog is lost or damaged, so that it is not known whose images are there.
    """
    if "" in (*patients, *keys):
        raise UsageError("a patient or key of the request is blank; nothing was erased")
    manifests = ingest_manifests(store, contents, corpus)
    if not manifests:
        known = ", ".join(contents.current) or "none"
        raise UsageError(f"{store.url} has no corpus {corpus}; it has {known}" if corpus else f"{store.url}: no corpus")
    found: dict[str, Erasure] = defaultdict(Erasure)
    seen: dict[tuple[str, int], set[str]] = defaultdict(set)
    hashers = {title: _hasher(title, own) for title, own in manifests.items()}
    for title, own in manifests.items():
        wanted = list(_wanted(patients, keys, hashers[title]))
        before = Tombstones.read(store, title)
        for catalog in catalogs(store, own):
            for each in wanted:
                rows = catalog.filter(_rows(catalog, each))
                if len(rows):
                    seen[each.column, each.number].add(title)
                    known = rows["patient"].unique().to_pylist() if each.column == "patient" else []
                    found[title].add(rows, patients=known)
        for each in wanted:
            if any(before.erased(column, each.names) for column in _columns(each)):
                seen[each.column, each.number].add(title)
    unread = [title for title, own in manifests.items() if own[0].facts["private"] and hashers[title] is None]
    _check({"patient": patients, "key": keys}, seen, sorted(manifests), unread)
    return found


def ingest_manifests(store: Store, contents: StoreContents, corpus: str | None = None) -> dict[str, list[Manifest]]:
    """All ingest manifests of a store by the title of their corpus, those of heads first.

    Raises:
        CorruptError: a manifest is damaged, so that it is not known what it leads to.
    """
    for name, error in contents.broken.items():
        # What a damaged record of a unit says is lost already; it is removed with the rest.
        if not name.startswith(UNITS):
            raise CorruptError(f"{error}; nothing was erased, because it is not known what this leads to")
    heads = {manifest.name for manifest in contents.current.values()}
    found: dict[str, list[Manifest]] = {}
    for each in sorted(contents.manifests.values(), key=lambda one: (one.name not in heads, one.name)):
        if each.stage == INGEST and corpus in (None, each.corpus):
            found.setdefault(each.corpus, []).append(Manifest.from_bytes(store.get(each.name), each.name))
    return found


def catalogs(store: Store, manifests: Sequence[Manifest]) -> Iterator[pa.Table]:
    """Each catalog of some ingest manifests once."""
    for manifest in {each.output(kind="catalog").name: each for each in manifests}.values():
        yield table_of(store, manifest, "catalog")


def _wanted(patients: Sequence[str], keys: Sequence[str], hasher: KeyedHasher | None) -> Iterator[_Wanted]:
    for column, names, kind in (("patient", patients, "patient"), ("key", keys, "path")):
        for number, name in enumerate(names):
            hashed = {hasher.hash(kind, name)} if hasher else set()
            yield _Wanted(column, frozenset({name, *hashed}), number)


def _columns(wanted: _Wanted) -> tuple[str, ...]:
    return ("key", "source") if wanted.column == "key" else (wanted.column,)


def _rows(catalog: pa.Table, wanted: _Wanted) -> pa.ChunkedArray:
    among = pa.array(sorted(wanted.names))
    masks = [pc.is_in(catalog[column], value_set=among) for column in _columns(wanted)]
    return masks[0] if len(masks) == 1 else pc.or_(*masks)


def _hasher(title: str, manifests: Sequence[Manifest]) -> KeyedHasher | None:
    """The keyed hashes of a private corpus; none where its secret is not on this machine."""
    digests = {str(each.facts.get(SECRET_FACT, "")) for each in manifests} - {""}
    secret = known_secret(title) if digests else None
    return KeyedHasher(secret) if secret is not None and digest_of_secret(secret) in digests else None


def _check(
    names: dict[str, Sequence[str]], seen: dict[tuple[str, int], set[str]], titles: list[str], unread: list[str]
) -> None:
    for column, asked in names.items():
        lost = [str(number + 1) for number in range(len(asked)) if (column, number) not in seen]
        if lost:
            why = f"; the secrets of {', '.join(unread)} are not on this machine" if unread else ""
            raise UsageError(
                f"{len(lost)} of {len(asked)} {column}s are in no corpus ({', '.join(titles)}): number "
                f"{', '.join(lost[:_SHOWN])} of the request{why}. Nothing was erased"
            )
        several = {title for (kind, _), own in seen.items() if kind == column and len(own) > 1 for title in own}
        if several:
            raise UsageError(
                f"a {column} of the request is in several corpora ({', '.join(sorted(several))}), where it may be "
                "another's: name one with --corpus. Nothing was erased"
            )
