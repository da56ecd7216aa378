"""Sources: what `corpus.root` may be."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from infra.errors import CorpusError
from tasks.sources.base import FILES, Source, SourceFileChangedError
from tasks.sources.folder import ArchiveSource, FolderSource
from tasks.sources.tree import Tree


def open_source(root: str | Path) -> Source:
    """The source at a place; lists nothing yet.

    Args:
        root: a folder, a zip, the first part of a zip that was cut (`x.zip.001`), a tar, or `s3://bucket/prefix[?endpoint=...]`
            (also with an archive's name as prefix).

    Raises:
        CorpusError: there is no such thing; names what is there. Of an S3 prefix `files` finds that out.
    """
    if str(root).startswith("s3://"):
        from tasks.sources.s3 import S3Source  # boto3 is only for those who use it

        return S3Source(str(root))
    place = os.path.abspath(os.path.expanduser(root))
    if os.path.isdir(place):
        return FolderSource(place)
    if os.path.isfile(place):
        return ArchiveSource(place)
    folder, name = os.path.split(place)
    there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.4)
    raise CorpusError(
        f"corpus.root {root}: no such folder or archive"
        + (f"; {folder} holds {near[0]}" if near else "; name the folder with the corpus as downloaded")
    )


__all__ = ["FILES", "Source", "SourceFileChangedError", "Tree", "open_source"]
