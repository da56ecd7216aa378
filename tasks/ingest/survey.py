"""What there is: the adapter's rows with keys, digests of the source bytes and, where private, a veil."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from infra.digest import canonical_json, digest_of
from infra.errors import CorpusError
from infra.store import Store
from tasks.catalog import OK
from tasks.corpora import Scan, adapter_of
from tasks.ingest.entries import NOT_READABLE, Entry
from tasks.ingest.keys import Veil, assign_keys, secret_of
from tasks.ingest.listing import Listing
from tasks.spec import CorpusSection, Spec


@dataclass(frozen=True)
class Survey:
    """A corpus as it lies on disk now."""

    corpus: CorpusSection
    scan: Scan
    section: dict[str, Any]  # what of the spec enters the key
    entries: list[Entry]
    listing: Listing
    veil: Veil | None

    @cached_property
    def source(self) -> str:
        """Digest of everything that the corpus says: bytes, labels, patients, official splits."""
        rows = [e.told for e in sorted(self.entries, key=lambda e: e.key)]
        scan = self.scan
        return digest_of([scan.task, scan.classes, scan.modality, sorted(scan.official), rows])

    @property
    def paths(self) -> dict[str, str]:
        """Key to path of the images that are there."""
        return {e.key: e.row.path for e in self.entries if e.row.path}

    def listed_as(self, path: str) -> str:
        """What the listing calls a path."""
        return self.veil.hide("path", path) if self.veil else path


def scan_corpus(spec: Spec) -> tuple[Scan, dict[str, Any]]:
    """The adapter's scan, and the section of the spec that enters keys, with defaults filled in.

    Raises:
        CorpusError: the folder is not what the spec says.
    """
    corpus, how = spec.corpus, spec.ingest
    try:
        scan = adapter_of(corpus.adapter).scan(corpus)
    except OSError as error:
        raise CorpusError(f"{error.filename or corpus.root}: {error.strerror or error}") from None
    # The failure budget decides whether a run ends, not what it makes.
    kept = {
        "size": how.size or scan.size,
        "encode": how.encode,
        "quality": how.quality,
        "shard_size": how.shard_size,
    }
    section = {"corpus": corpus.identity(), "ingest": kept}
    return scan, json.loads(canonical_json(section))


def survey(
    spec: Spec,
    store: Store,
    scan: Scan,
    section: dict[str, Any],
    known: Mapping[str, str],
    *,
    dry: bool = False,
) -> Survey:
    """Give rows their keys and digests.

    Args:
        known: path to key of an earlier ingest.
        dry: write nothing and hash nothing; files that the listing does not know have no digest.
    """
    corpus = spec.corpus
    veil = Veil(secret_of(store, corpus.title, create=not dry)) if corpus.private else None
    # A file that is at fault may still become good: rows are copied, so that a second survey starts afresh.
    rows = [replace(row) for row in scan.rows]
    if veil:
        keys = [veil.hide("path", r.path) if r.path else veil.hide("row", r.name) for r in rows]
    else:
        # No path has two slashes in a row: a label row without an image never shares a file's place.
        keys = assign_keys([(r.path or f"//{r.name}", r.name) for r in rows], known)
    entries = []
    for row, key in zip(rows, keys, strict=True):
        patient = row.patient
        if veil:
            patient = veil.hide("patient", row.patient)
            row.exam = veil.hide("exam", row.exam)
        entries.append(Entry(row, key, "" if veil else (row.path or ""), patient))
    found = Survey(corpus, scan, section, entries, Listing(store, corpus.title), veil)
    digests = found.listing.digests(
        corpus.root, [r.path for r in rows if r.path], hide=found.listed_as, hash_new=not dry
    )
    for entry in entries:
        digest = digests.get(entry.row.path or "", "")
        if isinstance(digest, str):
            entry.sha = digest
        elif entry.row.status == OK:
            entry.refuse(f"{NOT_READABLE}{digest.strerror}")
    return found
