"""Fingerprint of the source when the head was made: while it is the same, no table and no image is read.

It enters no key, like the digest cache: losing it costs a listing of the corpus and nothing else. It also says
where the corpus was, so that `repair` finds it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import canonical_json, digest_of
from infra.storage.store import MissingObjectError, Store
from tasks.ingest.corrections import digest_of_corrections
from tasks.ingest.shard import VERSION
from tasks.spec import CorpusSection, IngestSection

BATCH = 65536  # files whose names are hashed at once
_BUDGET = {"max_bad", "max_bad_share"}  # decide whether a run fails, not what it makes


@dataclass(frozen=True)
class SourceFingerprint:
    """What a finished ingest was asked for, and what it found."""

    root: str  # opens the source again; "" of a private corpus, whose place may say whose images these are
    request: str  # digest of what the spec asks for
    files: str  # digest of the source's listing
    digest: str  # of the manifest that came of it

    @classmethod
    def load(cls, store: Store, title: str) -> SourceFingerprint | None:
        """The last one, or None."""
        try:
            return cls(**json.loads(store.get(_name(title))))
        except (MissingObjectError, ValueError, TypeError):
            return None

    def save(self, store: Store, title: str) -> None:
        """Store it, unless it is stored already."""
        if SourceFingerprint.load(store, title) != self:
            store.put(_name(title), canonical_json(asdict(self)))


def digest_of_request(corpus: CorpusSection, ingest: IngestSection) -> str:
    """Digest of what the spec says, before anything is read."""
    about = [VERSION, corpus.identity(), ingest.model_dump(mode="json", exclude=_BUDGET)]
    corrected = digest_of_corrections(corpus)
    return digest_of([*about, corrected] if corrected else about)


def digest_of_files(files: pa.Table) -> str:
    """Digest of a listing: every path, size and stamp."""
    hasher = hashlib.sha256()
    for batch in files.to_batches(max_chunksize=BATCH):
        lines = pc.binary_join_element_wise(batch["path"], batch["size"].cast(pa.string()), batch["stamp"], "\x00")
        hasher.update(pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0].as_buffer())
        hasher.update(b"\n")
    return hasher.hexdigest()


def _name(title: str) -> str:
    return f"listings/{title}.json"
