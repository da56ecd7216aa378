"""The store: named byte strings that are whole or absent (DESIGN: Store).

Names are POSIX-like relative paths. Data objects carry their sha256 in their name, so two writers of
one name write the same bytes; manifests and heads are whole and last-writer-wins.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from infra.errors import CorruptError, PermanentError, UsageError

TEMPORARY = ".part-"


class MissingObjectError(PermanentError):
    """No object of that name; the text says which."""


class Store(Protocol):
    """What every backend does; tests/infra/test_store.py is the conformance suite."""

    url: str

    def put(self, name: str, data: bytes) -> None:
        """Write `data` under `name`: afterwards it is whole under that name, or the call raised."""

    def put_file(self, name: str, path: Path) -> None:
        """Like `put`, from a local file that may be larger than memory."""

    def get(self, name: str) -> bytes:
        """All bytes; MissingObjectError when there is no such object."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`; CorruptError when the object is shorter."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Name to size in bytes of every object whose name starts with `prefix`, by one listing."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def delete(self, name: str) -> None:
        """Remove it; nothing happens when it is not there. For repair, forget and gc alone."""

    def local_path(self, name: str) -> Path:
        """A local file with the object's bytes."""

    def open(self, name: str) -> BinaryIO:
        """A binary stream over the object."""


class LocalStore:
    """A folder. `put` = temporary file beside the target, length check, fsync, rename, fsync of the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.url = str(self.root)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if not name or any(part in ("", ".", "..") for part in parts) or parts[-1].startswith(TEMPORARY):
            raise UsageError(f"store name {name!r} is not a plain relative path")
        return self.root.joinpath(*parts)

    @contextmanager
    def _landing(self, name: str) -> Iterator[tuple[BinaryIO, Path]]:
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, Path(temporary)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _fsync_folder(target.parent)

    def put(self, name: str, data: bytes) -> None:
        with self._landing(name) as (file, temporary):
            file.write(data)
            file.flush()
            if temporary.stat().st_size != len(data):
                raise CorruptError(f"{name}: wrote {temporary.stat().st_size} of {len(data)} bytes")

    def put_file(self, name: str, path: Path) -> None:
        size = path.stat().st_size
        with self._landing(name) as (file, temporary), path.open("rb") as source:
            while block := source.read(1 << 20):
                file.write(block)
            file.flush()
            if temporary.stat().st_size != size:
                raise CorruptError(f"{name}: wrote {temporary.stat().st_size} of {size} bytes")

    def get(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingObjectError(f"{self.url}: no object {name}") from None

    def read(self, name: str, offset: int, size: int) -> bytes:
        with self.open(name) as file:
            data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise CorruptError(f"{self.url}/{name}: {len(data)} of {size} bytes at offset {offset}")
        return data

    def sizes(self, prefix: str) -> dict[str, int]:
        start = self.root / prefix.rpartition("/")[0]
        found: dict[str, int] = {}
        pending = [start] if start.is_dir() else []
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    name = os.path.relpath(entry.path, self.root).replace(os.sep, "/")
                    if entry.is_dir(follow_symlinks=False):
                        if name.startswith(prefix) or prefix.startswith(name):
                            pending.append(Path(entry.path))
                    elif name.startswith(prefix) and not entry.name.startswith(TEMPORARY):
                        found[name] = entry.stat().st_size
        return found

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def delete(self, name: str) -> None:
        path = self._path(name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _fsync_folder(path.parent)

    def local_path(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise MissingObjectError(f"{self.url}: no object {name}")
        return path

    def open(self, name: str) -> BinaryIO:
        return self.local_path(name).open("rb")


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_store(url: str | Path) -> LocalStore:
    """The store that a spec's `store:` names; a local folder."""
    text = str(url)
    if "://" in text:
        raise UsageError(f"store {text!r}: only a local folder can be a store in this release")
    return LocalStore(Path(text))
