"""Files on this machine that nobody but their owner may read: secrets, and what messages must not say.

They lie outside of every store and outside of `STILLROOM_HOME`, which people back up, serve and share.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from infra.errors import UsageError
from infra.settings import settings

OWNER_ONLY, OWNER_FOLDER = 0o600, 0o700
LARGEST_LOG = 16 << 20  # bytes after which a log begins anew, and the one before it goes


def owner_folder() -> Path:
    """The folder of these files; made when the first is written."""
    return settings().private_folder


def read_owner_file(path: Path) -> bytes | None:
    """The bytes of a file, None when there is none.

    Raises:
        UsageError: it is no plain file of this user, or others may read or write it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); it must be a plain file of yours") from None
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.getuid():
            raise UsageError(f"{path}: must be a plain file of the user who runs Stillroom (uid {os.getuid()})")
        if state.st_mode & 0o077:
            raise UsageError(
                f"{path}: others may read it (mode {stat.S_IMODE(state.st_mode):04o}); chmod 600 it, and think about "
                "who may have read it before"
            )
        return file.read()


def write_new_owner_file(path: Path, data: bytes) -> bool:
    """Write a file that is whole or absent; False when there is one already, which stays."""
    _make_folder(path.parent)
    # mkstemp makes a file of mode 0600, before its first byte.
    handle, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        os.unlink(temporary)
    return True


def append_owner_file(path: Path, text: str) -> None:
    """Add lines to a log; OSError when they cannot be written."""
    _make_folder(path.parent)
    if path.exists() and path.stat().st_size > LARGEST_LOG:
        os.replace(path, path.with_name(f"{path.name}.1"))
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, OWNER_ONLY)
    with os.fdopen(handle, "ab") as file:
        # One that was there before may have another mode.
        os.fchmod(file.fileno(), OWNER_ONLY)
        file.write(text.encode("utf-8", "surrogateescape"))


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=OWNER_FOLDER, parents=True, exist_ok=True)
