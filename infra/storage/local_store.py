"""The store in a folder."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from infra.disk_errors import disk_errors
from infra.errors import CorruptError
from infra.storage.protocol import TEMPORARY, MissingObjectError, checked_name


class LocalStore:
    """A folder. `put` = temporary file beside the target, length check, fsync, rename, fsync of the folder.

    What it makes is for its owner alone, whatever the umask says. Where somebody set the folder's group bit
    (`chmod 2770`), its group shares all but private objects.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.url = str(self.root)

    def _path(self, name: str) -> Path:
        return self.root.joinpath(*checked_name(name))

    @contextmanager
    def _temporary(self, name: str, publish: Callable[[str, Path], None]) -> Iterator[tuple[BinaryIO, Path]]:
        """A temporary file that becomes the object by `publish(temporary, target)`, or vanishes."""
        target = self._path(name)
        with disk_errors(target):
            shared = self._make_folders(target.parent)
            handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
        try:
            with disk_errors(target):
                with os.fdopen(handle, "wb") as file:
                    yield file, Path(temporary)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o660 if shared else 0o600)
                publish(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)
        _fsync_folder(target.parent)

    def _make_folders(self, folder: Path) -> bool:
        """Make a folder and those above it, each name on the disk before anything is put below it.

        Returns:
            Whether the store is shared with a group.
        """
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        shared = self.root not in missing and bool(self.root.stat().st_mode & stat.S_ISGID)
        for new in reversed(missing):
            within = new == self.root or new.is_relative_to(self.root)
            try:
                new.mkdir(mode=0o700 if within else 0o777, exist_ok=True)
            except FileExistsError:
                raise NotADirectoryError(errno.ENOTDIR, "a file lies where a folder should", str(new)) from None
            if shared:
                new.chmod(0o2770)
            _fsync_folder(new.parent)
        return shared

    def put(self, name: str, data: bytes) -> None:
        self._put(name, data, os.replace)

    def put_new(self, name: str, data: bytes) -> bool:
        try:
            self._put(name, data, os.link)
        except FileExistsError:
            return False
        return True

    def _put(self, name: str, data: bytes, publish: Callable[[str, Path], None]) -> None:
        with self._temporary(name, publish) as (file, temporary):
            file.write(data)
            file.flush()
            if temporary.stat().st_size != len(data):
                raise CorruptError(f"{name}: wrote {temporary.stat().st_size} of {len(data)} bytes")

    def put_file(self, name: str, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as source, self._temporary(name, os.replace) as (file, temporary):
            while block := source.read(1 << 20):
                file.write(block)
            file.flush()
            if temporary.stat().st_size != size:
                raise CorruptError(f"{name}: wrote {temporary.stat().st_size} of {size} bytes")

    def get(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingObjectError(f"{self.url}: no object {name}") from None

    def read(self, name: str, offset: int, size: int, *, cached: bool = True) -> bytes:
        with self.open(name) as file:
            data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise CorruptError(f"{self.url}/{name}: {len(data)} of {size} bytes at offset {offset}")
        return data

    def sizes(self, prefix: str) -> dict[str, int]:
        return {name: state.st_size for name, state in self._listing(prefix, temporary=False)}

    def ages(self, prefix: str) -> dict[str, float]:
        now = time.time()
        return {name: now - state.st_mtime for name, state in self._listing(prefix, temporary=False)}

    def age(self, name: str) -> float | None:
        try:
            return time.time() - self._path(name).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stamps(self, prefix: str) -> dict[str, str]:
        listed = self._listing(prefix, temporary=False)
        return {name: f"{state.st_ino}-{state.st_mtime_ns}-{state.st_size}" for name, state in listed}

    def _listing(self, prefix: str, *, temporary: bool) -> Iterator[tuple[str, os.stat_result]]:
        """Name and state of each file below `prefix`: of the objects, or of writers' temporary files."""
        above = prefix.rpartition("/")[0]
        pending = [f"{above}/" if above else ""]
        while pending:
            folder = pending.pop()
            try:
                entries = os.scandir(self.root / folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            with entries:
                for entry in entries:
                    name = folder + entry.name
                    if not name.startswith(prefix):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    elif entry.name.startswith(TEMPORARY) is temporary:
                        try:
                            yield name, entry.stat()
                        except FileNotFoundError:
                            continue  # removed since the folder was read

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def delete(self, name: str) -> None:
        path = self._path(name)
        with disk_errors(path):
            path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _fsync_folder(path.parent)

    def private(self, name: str) -> None:
        os.chmod(self.local_path(name), 0o600)

    def local_path(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise MissingObjectError(f"{self.url}: no object {name}")
        return path

    def open(self, name: str, *, cached: bool = True) -> BinaryIO:
        return self.local_path(name).open("rb")

    def abandoned(self, older_than: float) -> list[str]:
        now = time.time()
        return [n for n, state in self._listing("", temporary=True) if now - state.st_mtime > older_than]

    def sweep(self, older_than: float) -> int:
        left = self.abandoned(older_than)
        for name in left:
            (self.root / name).unlink(missing_ok=True)
        return len(left)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
