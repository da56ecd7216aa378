"""A source file as it was ingested, found again by its path and its sha256."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from tasks.sources.base import Source, SourceFileChangedError


def read_as_ingested(source: Source, listed: pa.Table, path: str, sha256: str) -> bytes | None:
    """The file's bytes; None where none of that path has them any more.

    Args:
        listed: `source.files()`.
        path, sha256: as the catalog has them; the path may begin below the root, where an adapter found the corpus.
    """
    fits = pc.or_(pc.equal(listed["path"], path), pc.ends_with(listed["path"], f"/{path}"))
    for file in listed.filter(fits).to_pylist() if path else ():
        try:
            data = source.read(file["path"], file["stamp"])
        except (SourceFileChangedError, OSError):
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    return None
