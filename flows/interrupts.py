"""Requests to stop a run: by Ctrl-C, in Prefect's pages or by a worker; one that does not stop in time is ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import psutil

from flows.output import FAILED, STOPPED

STOP_SECONDS = 20.0
"""From the first request until a run that does not stop by itself is ended; workers send SIGKILL after 26 and 30 s."""

LEAVE_SECONDS = 8.0
"""For Prefect to take the state of a run that has stopped, and for its process to end: libraries may hold it up."""

STATE_SECONDS = 4.0
"""For Prefect's API to take the state of a run that is ended."""

INTERRUPTED = 130
"""Exit code of a command that a second interrupt ended, as shells count."""


SECONDS_BETWEEN_LOOKS = 0.1


class Deadline:
    """Ends this process, and all that it started, when a run that was asked to stop does not.

    Args:
        overdue: called before the process is ended, to say how its runs ended.
        seconds: that a run has to stop.
    """

    def __init__(self, overdue: Callable[[], None], seconds: float = STOP_SECONDS) -> None:
        self._overdue, self._seconds = overdue, seconds
        self._until = float("inf")
        self._over = False
        self._lock = threading.RLock()  # a signal may come while it is held
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """The run was asked to stop; from any thread, and as often as it is heard."""
        with self._lock:
            if self._thread is None:
                self._until = time.monotonic() + self._seconds
                self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._thread.start()

    def stopped(self, seconds: float = LEAVE_SECONDS) -> None:
        """The run has stopped, and this process, which is its alone, has less time than before to end."""
        self._until = min(self._until, time.monotonic() + seconds)

    def end(self) -> None:
        """The run is over; of a process that then lives on, nothing more is said."""
        self._over = True

    def _watch(self) -> None:
        while time.monotonic() < self._until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if not self._over:
            last = threading.Thread(target=self._overdue, daemon=True)
            last.start()
            last.join(STATE_SECONDS)
            os.write(2, f"error: {STOPPED}\n".encode())
        _end(FAILED)


class Interrupts:
    """SIGINT as a request that the run asks for, in the main thread; elsewhere there is nothing to hear.

    Nothing is raised, so that no import, lock or transaction is cut. Once asked, it stays so until the process ends.

    Args:
        overdue: called when the run has not stopped in time, before the process is ended.
        seconds: that a run has to stop.
    """

    def __init__(self, overdue: Callable[[], None], seconds: float = STOP_SECONDS) -> None:
        self._deadline = Deadline(overdue, seconds)
        self._asked = threading.Event()
        self._before: Any = None

    def requested(self) -> bool:
        """Whether the run shall stop."""
        return self._asked.is_set()

    def request(self) -> None:
        """The run was asked to stop in another way, such as in Prefect's pages."""
        self._asked.set()
        self._deadline.begin()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline.end()
        if self._before is not None and not self.requested():
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, *_: Any) -> None:
        if self.requested():
            _end(INTERRUPTED)
        self._asked.set()
        if sys.stderr.isatty():
            # Not by print: the interrupt may have come in the middle of one.
            os.write(2, b"\rstopping; interrupt again to end at once\x1b[K\r")
        self._deadline.begin()


def _end(code: int) -> None:
    """End this process and all that it started, at once."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:
            continue
    os._exit(code)
