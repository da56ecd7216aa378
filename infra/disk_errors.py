"""What the system says of a disk that takes nothing more, in words that name the disk, the path and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import DiskError

GIB = 1 << 30
_FREE = "`stillroom gc STORE --delete` removes what nothing in a store needs"


def disk_error(error: BaseException, path: str | Path | None = None) -> DiskError | None:
    """The error to raise for one that says that a disk is full, read-only, over quota or closed to this user.

    Args:
        path: what was to be written; default: the file that the error names.

    Returns:
        None where the error is none of these.
    """
    if not isinstance(error, OSError):
        return None
    place = Path(path or error.filename or os.environ.get("TMPDIR") or "/tmp")
    if error.errno == errno.ENOSPC:
        return DiskError(f"{place}: {_disk(place)} is full ({_room(place)}); free space there, then run again: {_FREE}")
    if error.errno == errno.EDQUOT:
        quota = f"the quota of {_user()} on {_disk(place)} is used up"
        return DiskError(f"{place}: {quota}; free space there or have it raised, then run again: {_FREE}")
    if error.errno == errno.EROFS:
        return DiskError(f"{place}: {_disk(place)} is read-only; have it mounted for writing, or write elsewhere")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DiskError(f"{place}: {_user()} may not write there; change its owner or mode, or write elsewhere")
    return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate what goes wrong while `path` is written.

    Raises:
        DiskError: the disk is full, read-only, over quota or closed to this user.
    """
    try:
        yield
    except OSError as error:
        found = disk_error(error, path)
        if found is None:
            raise
        raise found from error


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(part for part in (path, *path.parents) if part.exists())


def _disk(path: Path) -> str:
    """The file system that a path lies on: its device, where the system tells it, and its mount point."""
    there = _existing(path).resolve()
    mount = next(part for part in (there, *there.parents) if os.path.ismount(part))
    try:
        mounts = [line.split(" ")[:2] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        mounts = []
    device = next((name for name, point in reversed(mounts) if point == str(mount)), "")
    return f"the disk at {mount}" + (f" ({device})" if device else "")


def _room(path: Path) -> str:
    there = _existing(path)
    usage, state = shutil.disk_usage(there), os.statvfs(there)
    files = ", no room for another file" if state.f_files and not state.f_favail else ""
    return f"{usage.free / GIB:.2f} of {usage.total / GIB:.2f} GiB free{files}"


def _user() -> str:
    return f"user {os.geteuid()}"
