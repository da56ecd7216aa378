"""What a source is: somewhere that a corpus lies, listed once and read file by file.

A listing gives every file a stamp. The stamp changes whenever the bytes may have changed, and says where they
are, so that a worker which gets a path and its stamp reads the file without listing anything again:

    f:<mtime_ns>                                                         a file in a folder
    z:<archive>:<header offset>:<packed>:<size>:<method>:<crc32>:<etag>  a member of a zip; etag only in S3
    t:<archive>:<data offset>:<size>:<mtime_ns or etag>                  a member of a tar
    s:<size>:<etag>                                                      an object in S3
    x:<reason>                                                           it is there, but cannot be read
"""

from __future__ import annotations

import errno
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import TransientError

FILES = pa.schema([("path", pa.string()), ("size", pa.int64()), ("stamp", pa.string())])
BATCH = 65_536  # rows held as Python objects at a time
BLOCK = 4 << 20  # bytes read at a time; most photographs are one block
LARGEST = 1 << 30  # bytes of a file that is still read


class SourceFileChangedError(TransientError):
    """A file is no longer what its stamp says: the corpus was changed after it was listed."""


class Source(Protocol):
    """Somewhere that a corpus lies."""

    url: str  # opens it again, on any worker that sees the same files

    @property
    def notes(self) -> list[str]:
        """Messages for the user, once it is listed."""

    def files(self) -> pa.Table:
        """Every file: schema FILES, one chunk, sorted by the bytes of the path. Listed once.

        Raises:
            CorpusError: an archive that cannot be trusted, or a folder that cannot be listed.
        """

    def read(self, path: str, stamp: str) -> bytes:
        """All bytes of a file as it was listed.

        Raises:
            SourceFileChangedError: the file is not what the stamp says.
            OSError: it cannot be read; `strerror` says why without naming it.
        """

    def digest(self, path: str, stamp: str) -> str:
        """Hex sha256 of the file's bytes in bounded memory; raises as `read` does."""


class BlockReader(ABC):
    """`read` and `digest` over one stream of blocks, which ends only when the bytes are those of the stamp."""

    @abstractmethod
    def blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        """The file's bytes in order; raises as `read` does, at the latest after the last block."""

    def read(self, path: str, stamp: str) -> bytes:
        return b"".join(self.blocks(path, stamp))

    def digest(self, path: str, stamp: str) -> str:
        found = hashlib.sha256()
        for block in self.blocks(path, stamp):
            found.update(block)
        return found.hexdigest()


class Lister:
    """Collects files in batches, so that a million of them are never a million Python objects."""

    def __init__(self) -> None:
        self._done: list[pa.RecordBatch] = []
        self._paths: list[str] = []
        self._sizes: list[int] = []
        self._stamps: list[str] = []

    def add(self, path: str, size: int, stamp: str) -> None:
        """Add a file; a path that is not UTF-8 is shown escaped and cannot be read."""
        if not path.isascii():
            path, stamp = _encodable(path, stamp)
        self._paths.append(path)
        self._sizes.append(size)
        self._stamps.append(stamp)
        if len(self._paths) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = [pa.array(c, f.type) for c, f in zip((self._paths, self._sizes, self._stamps), FILES, strict=True)]
        self._done.append(pa.record_batch(columns, schema=FILES))
        self._paths, self._sizes, self._stamps = [], [], []

    def finish(self) -> pa.Table:
        """The files, in the order of adding."""
        self._flush()
        return pa.Table.from_batches(self._done, FILES)


def by_path(files: pa.Table) -> pa.Table:
    """Sorted by the bytes of the path, in one chunk."""
    return files.take(pc.sort_indices(files["path"])).combine_chunks()


def too_large(path: str) -> OSError:
    """The error for a file above LARGEST."""
    return OSError(errno.EFBIG, "larger than 1 GiB, which no photograph is", path)


def unreadable(path: str, stamp: str) -> OSError:
    """The error for a file whose stamp is `x:<reason>`."""
    return OSError(errno.EINVAL, stamp[2:], path)


def _encodable(path: str, stamp: str) -> tuple[str, str]:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return shown, "x:file name is not UTF-8; rename the file"
    return path, stamp
