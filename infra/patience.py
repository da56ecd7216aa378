"""Waiting for servers that are gone for a while, such as one that is restarted: how long, and who ends the wait.

`STILLROOM_PATIENCE` is the bound for all of them. A run that is asked to stop waits no longer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from infra.settings import settings

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 10.0
"""Pauses of `patiently`: they double from the first to the longest."""

T = TypeVar("T")

_log = logging.getLogger(__name__)
_stopped = threading.Event()


def hurry() -> None:
    """From now on nothing in this process waits for a server that is gone: the run is to stop."""
    _stopped.set()


def take_time() -> None:
    """A new run begins, which may wait."""
    _stopped.clear()


def pause(seconds: float) -> None:
    """Sleep, or until `hurry` is called."""
    _stopped.wait(seconds)


def waits(since: float) -> bool:
    """Whether a server that is gone is still waited for.

    Args:
        since: time.monotonic() of the first fault.
    """
    return not _stopped.is_set() and time.monotonic() - since < settings().patience


def patiently(call: Callable[[], T], is_gone: Callable[[BaseException], bool]) -> T:
    """What a call returns; made again for `STILLROOM_PATIENCE` seconds while nobody answers.

    Args:
        is_gone: whether an error says that nobody answers; any other is raised at once.
    """
    since, seconds = 0.0, FIRST_SECONDS
    while True:
        try:
            return call()
        except Exception as error:
            since = since or time.monotonic()
            if not is_gone(error) or not waits(since):
                raise
            _log.warning("%s; waiting for it up to %g s", error, settings().patience)
        pause(seconds)
        seconds = min(LONGEST_SECONDS, 2 * seconds)
