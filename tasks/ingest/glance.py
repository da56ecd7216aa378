"""The glance: does the source look as it did when the head was made? Then nothing needs to be read.

It is a cache outside every digest, like the listing: losing it costs a survey and nothing else. It also
remembers where the corpus lay, so that `repair` finds it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import canonical_json, digest_of
from infra.storage.store import MissingObjectError, Store
from tasks.ingest.shard import VERSION
from tasks.spec import CorpusSection, IngestSection

TOGETHER = 65536  # files whose names are hashed at once
_BUDGET = {"max_bad", "max_bad_share"}  # decide whether a run ends, not what it makes


@dataclass(frozen=True)
class Glance:
    """What a finished ingest saw."""

    root: str  # opens the source again
    request: str  # digest of what the spec asks for
    files: str  # digest of the source's listing
    digest: str  # of the manifest that came of it

    @classmethod
    def load(cls, store: Store, title: str) -> Glance | None:
        """The last one, or None."""
        try:
            return cls(**json.loads(store.get(_name(title))))
        except (MissingObjectError, ValueError, TypeError):
            return None

    def save(self, store: Store, title: str) -> None:
        """Keep it, unless it is kept already."""
        if Glance.load(store, title) != self:
            store.put(_name(title), canonical_json(asdict(self)))


def request_of(corpus: CorpusSection, ingest: IngestSection) -> str:
    """Digest of what the spec says, before anything is read."""
    return digest_of([VERSION, corpus.identity(), ingest.model_dump(mode="json", exclude=_BUDGET)])


def files_of(files: pa.Table) -> str:
    """Digest of a listing: every path, size and stamp."""
    hasher = hashlib.sha256()
    for batch in files.to_batches(max_chunksize=TOGETHER):
        lines = pc.binary_join_element_wise(batch["path"], batch["size"].cast(pa.string()), batch["stamp"], "\x00")
        hasher.update(pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0].as_buffer())
        hasher.update(b"\n")
    return hasher.hexdigest()


def _name(title: str) -> str:
    return f"listings/{title}.json"
