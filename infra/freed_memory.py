"""Memory that a process frees stays with it for a while, so that the next step need not ask the kernel for it again.

Workers are started so (`infra.compute.cluster_spec.WORKER_ENVIRONMENT`); this is for a process that runs already and
measures what a worker would take: on two cores a step of a small network is up to 1.9 times as long where glibc gives
its maps back after each use.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 128 << 20}
_DEFAULTS = {
    _MMAP_MAX: ("MALLOC_MMAP_MAX_", 65_536),
    _TRIM_THRESHOLD: ("MALLOC_TRIM_THRESHOLD_", 128 << 10),
    _TOP_PAD: ("MALLOC_TOP_PAD_", 128 << 10),
}

_lock = threading.Lock()
_holders = 0


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Freed memory stays with the process inside this block and returns to the kernel after it.

    Threads may hold it side by side; the last one that leaves gives the memory back. Without glibc nothing happens.
    """
    global _holders
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _holders += 1
        if _holders == 1:
            for parameter, value in _KEEP.items():
                libc.mallopt(parameter, value)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                for parameter, (variable, default) in _DEFAULTS.items():
                    libc.mallopt(parameter, _number(os.environ.get(variable), default))
                libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None


def _number(text: str | None, default: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        return default
