"""What readers of zips and tars share: an archive's bytes at any offset, and what names its entries may have.

A local archive is a file, or the parts of one that was cut; tasks/sources/s3.py has those in a bucket.
"""

from __future__ import annotations

import errno
import os
import re
import weakref
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from threading import Lock
from typing import Protocol

from infra.errors import CorpusError

MOST_OPEN = 64  # archives that a process keeps open


class Blob(Protocol):
    """An archive's bytes."""

    name: str  # what messages call it
    size: int

    @property
    def version(self) -> str:
        """Changes whenever the bytes may have changed."""

    def at(self, offset: int, size: int) -> bytes:
        """Exactly so many bytes; OSError when they are not there."""


class LocalBlob:
    """A local file, or several that follow each other. Safe for many threads.

    Args:
        name: what messages call it.
        paths: the parts in order.
    """

    def __init__(self, name: str, paths: list[str]) -> None:
        self.name, self._paths = name, paths
        self._files: list[int] = []
        # Whoever still reads holds the object: descriptors are closed when nobody does.
        weakref.finalize(self, _close, self._files)
        for path in paths:
            self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self._seen = [_identity(os.fstat(file)) for file in self._files]
        sizes = [os.fstat(file).st_size for file in self._files]
        self._starts = [0, *accumulate(sizes)]
        self.size = self._starts[-1]

    @property
    def version(self) -> str:
        return "-".join(str(os.fstat(file).st_mtime_ns) for file in self._files)

    @property
    def current(self) -> bool:
        """Whether the open files are still those under these names, unchanged."""
        try:
            return [_identity(os.stat(path)) for path in self._paths] == self._seen
        except OSError:
            return False

    def at(self, offset: int, size: int) -> bytes:
        found = []
        part = bisect_right(self._starts, offset) - 1
        left = size
        while left and part < len(self._files):
            block = os.pread(self._files[part], left, offset - self._starts[part])
            if not block:
                part += 1
                continue
            found.append(block)
            offset += len(block)
            left -= len(block)
        if left:
            raise OSError(errno.EIO, "its archive ends before it; download the archive again", self.name)
        return b"".join(found)


class OpenArchives:
    """The archives read last, kept open, so that reading one image is one read and no open."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most, self._lock = most, Lock()
        self._blobs: OrderedDict[str, LocalBlob] = OrderedDict()

    def get(self, path: str) -> LocalBlob:
        """The archive of that path (the first part, where it was cut), opened anew when it was replaced."""
        with self._lock:
            blob = self._blobs.get(path)
        if blob is None or not blob.current:
            blob = LocalBlob(path, parts_of(path))
        with self._lock:
            self._blobs[path] = blob
            self._blobs.move_to_end(path)
            while len(self._blobs) > self._most:
                self._blobs.popitem(last=False)
            return blob


OPEN_ARCHIVES = OpenArchives()


def is_first_part(path: str) -> bool:
    """Whether it is the first part of a zip that was cut (`x.zip.001`)."""
    return path.lower().endswith(".zip.001")


def parts_of(path: str) -> list[str]:
    """The file itself, or all parts up to the first that is missing."""
    if not is_first_part(path):
        return [path]
    parts = [path]
    while os.path.exists(following := f"{path[:-3]}{len(parts) + 1:03d}"):
        parts.append(following)
    return parts


def beside(path: str) -> list[str]:
    """Names of the file itself and, where it is a part of a cut zip, of the other parts, in its folder."""
    folder, name = os.path.split(path)
    base, _, number = name.rpartition(".")
    if not (number.isdigit() and base.lower().endswith(".zip")):
        return [name]
    return [n for n in os.listdir(folder) if n.rpartition(".")[0] == base and n.rpartition(".")[2].isdigit()]


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def entry_path(archive: str, name: str) -> str:
    """The entry's path below the archive's folder, without `./` and doubled slashes.

    Raises:
        CorpusError: the name is absolute, has a drive letter, or climbs, whichever slash it climbs with.
    """
    # The plain names, which are nearly all, cost a few searches and no regular expression.
    odd = "\\" in name or "\0" in name or ".." in name or "//" in name or "/./" in name or ":" in name
    if name and not odd and name[0] not in "/.":
        return name
    either = name.replace("\\", "/")
    climbs = ".." in either.split("/")
    if not name or "\0" in name or climbs or either.startswith("/") or re.match("[A-Za-z]:", name):
        why = "climbs out of its folder" if climbs else "is no path below a folder"
        raise CorpusError(
            f"{archive}: the name of its entry {name!r} {why}; such an archive is not to be trusted: "
            "get it from its publisher again, or extract it yourself and name the folder"
        )
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def refuse(archive: str, name: str, why: str) -> CorpusError:
    """The error for an entry that is no plain file."""
    return CorpusError(f"{archive}: its entry {name!r} {why}; extract the archive and name the folder as corpus.root")
