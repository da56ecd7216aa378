"""The processor time that one image may take; `tasks.preprocessing.effort` judges before what its header announces.

A decoder cannot be interrupted, so it works in a thread of its own, which is left behind when its time is up: it ends
when the decoder does, and nothing waits for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tasks.preprocessing.unreadable import UnreadableError

_LOOKS = 20  # how often the clock is looked at before the time is up

_T = TypeVar("_T")


class LimitedCalls:
    """Calls functions one after the other in a thread, and gives up on one that takes too much processor time.

    Processor time of that thread alone counts, where the system tells it (Linux): a busy or sleeping machine makes no
    image slow. Elsewhere the clock on the wall counts.

    Args:
        seconds: for one call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._thread: _Thread | None = None

    def __call__(self, function: Callable[..., _T], *args: Any) -> _T:
        """`function(*args)`, or what it raises.

        Raises:
            UnreadableError: its time was up.
        """
        thread = self._thread = self._thread or _Thread()
        answer = thread.call(function, args)
        began = thread.clock()
        while True:
            try:
                value, error = answer.get(timeout=self._seconds / _LOOKS)
            except queue.Empty:
                if thread.clock() - began > self._seconds:
                    self.close()
                    raise UnreadableError(
                        f"takes more than {self._seconds:g} s to decode (run.image_seconds)"
                    ) from None
                continue
            if error is not None:
                raise error
            return value

    def close(self) -> None:
        """Let the thread end after what it does now."""
        if self._thread is not None:
            self._thread.end()
            self._thread = None


class _Thread:
    """A daemon thread that answers calls: this process does not wait for it when it ends."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="limited-calls", daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> queue.SimpleQueue[Any]:
        """Where (value, error) will be found."""
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._calls.put((function, args, answer))
        return answer

    def end(self) -> None:
        self._calls.put(None)

    def clock(self) -> float:
        """Seconds of processor time that the thread has used; of the clock where the system does not tell."""
        if hasattr(time, "pthread_getcpuclockid") and self._thread.ident is not None and self._thread.is_alive():
            return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))
        return time.monotonic()

    def _work(self) -> None:
        while (one := self._calls.get()) is not None:
            function, args, answer = one
            try:
                answer.put((function(*args), None))
            except BaseException as error:
                answer.put((None, error))
