"""Freed memory stays with a process while it is asked to, and goes back afterwards."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from infra.freed_memory import keep_freed_memory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is on Linux")

MIB = 1 << 20
PAGE = resource.getpagesize()


def _faults_of_use(rounds: int = 8) -> int:
    """Page faults of taking, filling and freeing 48 MiB again and again, after a first time."""
    np.ones(48 * MIB, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(48 * MIB, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_memory_inside_is_not_asked_for_again() -> None:
    outside = _faults_of_use()
    with keep_freed_memory():
        inside = _faults_of_use()
    assert inside < outside / 10


def test_memory_goes_back_after_the_block() -> None:
    with keep_freed_memory():
        _faults_of_use(1)
        kept = _resident()
    assert kept - _resident() > 40 * MIB


def test_memory_stays_while_another_thread_holds_it() -> None:
    leave = threading.Event()
    entered = threading.Event()

    def hold() -> None:
        with keep_freed_memory():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(60)
    try:
        with keep_freed_memory():
            _faults_of_use(1)
        assert _faults_of_use() < 48 * MIB // PAGE
    finally:
        leave.set()
        thread.join()


def test_memory_goes_back_when_the_block_raises() -> None:
    outside = _faults_of_use()
    with pytest.raises(ValueError, match="inside"), keep_freed_memory():
        raise ValueError("inside")
    assert _faults_of_use() > outside / 10
