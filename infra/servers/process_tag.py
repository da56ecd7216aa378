"""Tags that name a process for good: a pid alone is used again."""

from __future__ import annotations

import os
import socket

import psutil

PREFIX = "proc:"

CLOCK_SECONDS = 3.0
"""By how much a process's start time may seem to move: it is counted from the boot, and clocks are set."""


def process_tag(pid: int | None = None) -> str:
    """The tag of a process: host, pid and start time (a pid alone is used again)."""
    process = psutil.Process(pid or os.getpid())
    return f"{PREFIX}{socket.gethostname()}:{process.pid}:{int(process.create_time())}"


def is_dead(tag: str) -> bool:
    """Whether the tag names a process of this host that is gone; other hosts' are not ours to judge."""
    host, pid, start = tag.removeprefix(PREFIX).rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - int(start)) > CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return True
