"""Copies of S3 objects on this machine: verified, bounded, shared by all processes (DESIGN: Reading).

Only an object whose name carries a digest of its bytes is copied, and only after its bytes gave that digest:
such a copy stays right for ever. A reader gets an open file, so that eviction removes its name and not its bytes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from infra.disk_errors import disk_error
from infra.errors import UsageError
from infra.settings import settings
from infra.storage.protocol import TEMPORARY

STALE = 3600.0  # seconds after which a temporary file has no writer any more
FRESH = 60.0  # seconds within which a second use does not count as a new one
EVICT_TO = 0.9  # share of the bound that eviction leaves
UNCHECKED = 0.01  # share of the bound that a process may add before it measures the folder again
LOCK = ".lock"
_DIGEST = re.compile(r"(?:^|[-_/])([0-9a-f]{8,64})\.[^./]+$")


def digest_in(name: str) -> str:
    """The hexadecimal digits, 8 to 64, that end the stem of an object's name; empty where there are none."""
    found = _DIGEST.search(name)
    return found.group(1) if found else ""


class Cache:
    """A folder of copies.

    Args:
        folder: shared by every process and bucket of this machine.
        bound: bytes that the copies may take; the least recently used go first. An object larger than that is
            still copied, and goes with the next one.
    """

    def __init__(self, folder: Path, bound: int) -> None:
        self.folder, self.bound = folder, bound
        self._added = bound  # so that the first copy measures the folder

    @classmethod
    def of_settings(cls) -> Cache:
        """The cache that STILLROOM_CACHE and STILLROOM_CACHE_GB describe."""
        known = settings()
        return cls(known.cache_folder, int(known.cache_gb * 1e9))

    def path(self, where: str) -> Path:
        """Where the copy of an object lies.

        Args:
            where: the object's full address, endpoint included.
        """
        digest = hashlib.sha256(where.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:40]}-{where.rpartition('/')[2][-120:]}"

    def open(self, where: str, fetch: Callable[[BinaryIO], str]) -> BinaryIO:
        """The object as an open file at its start, from the copy or fetched now.

        Args:
            where: the object's full address, endpoint included.
            fetch: writes the object into an empty file and returns the sha256 of its bytes.

        Raises:
            UsageError: the folder cannot be written.
        """
        path = self.path(where)
        found = self._found(path)
        if found is not None:
            return found
        with self._writable(path), self._locked(path):
            # Whoever waited for another process's download finds it here.
            return self._found(path) or self._fetch(where, path, fetch)

    def place(self, where: str, fetch: Callable[[BinaryIO], str]) -> Path:
        """A file with an object that is fetched now, whatever lies there, and replaced by the next call."""
        path = self.path(where)
        path = path.with_name(f"fresh-{path.name}")  # `open` takes a copy without this prefix as checked
        with self._writable(path), self._temporary(path) as (file, temporary):
            fetch(file)
            self._publish(file, temporary, path)
        return path

    def drop(self, where: str) -> None:
        """Remove the copy of an object."""
        self.path(where).unlink(missing_ok=True)

    def scratch(self) -> BinaryIO:
        """An empty file without a name, for an object of which no copy stays."""
        with self._writable(self.folder / "scratch"):
            return cast(BinaryIO, tempfile.TemporaryFile(dir=self.folder))

    def _found(self, path: Path) -> BinaryIO | None:
        try:
            file = path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if time.time() - os.fstat(file.fileno()).st_mtime > FRESH:
            os.utime(file.fileno())
        return file

    def _fetch(self, where: str, path: Path, fetch: Callable[[BinaryIO], str]) -> BinaryIO:
        with self._temporary(path) as (file, temporary):
            proof = digest_in(where)
            if fetch(file).startswith(proof) and proof:
                self._publish(file, temporary, path)
            file.flush()
            reading = os.fdopen(os.dup(file.fileno()), "rb")
        reading.seek(0)
        return reading

    @contextmanager
    def _temporary(self, path: Path) -> Iterator[tuple[BinaryIO, Path]]:
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        try:
            with os.fdopen(handle, "w+b") as file:
                yield cast(BinaryIO, file), Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _publish(self, file: BinaryIO, temporary: Path, path: Path) -> None:
        file.flush()
        os.fsync(file.fileno())  # a name must not outlive its bytes when the machine stops
        os.replace(temporary, path)
        self._added += os.fstat(file.fileno()).st_size
        if self._added > self.bound * UNCHECKED:
            self._evict(path)
            self._added = 0

    def _evict(self, newest: Path) -> None:
        copies: list[tuple[float, int, str]] = []
        total, now = 0, time.time()
        for folder in os.scandir(self.folder):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder.path):
                with suppress(FileNotFoundError):
                    state = entry.stat()
                    if entry.name.startswith(TEMPORARY):
                        if now - state.st_mtime > STALE:
                            os.unlink(entry.path)
                    elif entry.name != LOCK:
                        copies.append((state.st_mtime, state.st_size, entry.path))
                        total += state.st_size
        if total <= self.bound:
            return
        for _, size, path in sorted(copies):
            if total <= self.bound * EVICT_TO:
                return
            if path != str(newest):
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """One download of an object at a time on this machine; the lock goes with its process."""
        with (path.parent / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _writable(self, path: Path) -> Iterator[None]:
        try:
            # Copies of images: for their owner alone. Only the last folder of mkdir would get the mode.
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.folder, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise UsageError(f"{disk_error(error, self.folder)} (STILLROOM_CACHE, STILLROOM_CACHE_GB)") from error
            raise UsageError(
                f"{self.folder}: {error.strerror or error}; look at STILLROOM_CACHE and STILLROOM_CACHE_GB"
            ) from error
