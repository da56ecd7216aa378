"""A lock that all processes of this machine share, as a file; the kernel frees it when its holder dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


class FileLock:
    """`with lock:`, among threads and processes; a thread that holds it may take it again.

    Args:
        path: gives the lock file, which stays; its folder must be there.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path
        self._threads = threading.RLock()
        self._depth, self._file = 0, -1

    def __enter__(self) -> FileLock:
        self._threads.acquire()
        try:
            if self._depth == 0:
                self._file = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
            self._depth += 1
        except BaseException:
            if self._file >= 0 and self._depth == 0:
                os.close(self._file)
                self._file = -1
            self._threads.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            os.close(self._file)
            self._file = -1
        self._threads.release()
