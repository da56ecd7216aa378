"""Steps of one stage that start together share the work that several of them need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from infra.errors import CancelledError
from tasks.pipeline.stage import StageWork

PATIENCE = 10.0
"""Seconds that the first waits for the others: one of them may have failed before it started."""


class Together:
    """The first attempts of several steps meet here once; later attempts pass by.

    Args:
        share: `Stage.share`; called by one of them with the works of all.
        expected: steps that start together.
    """

    def __init__(self, share: Callable[[Sequence[StageWork]], None], expected: int) -> None:
        self._share, self._expected = share, expected
        self._works: list[StageWork] = []
        self._changed = threading.Condition()
        self._closed = False
        self._done = threading.Event()

    def join(self, work: StageWork) -> None:
        """Wait for the others, then for the shared work. What fails in it is left to each step's own work.

        Raises:
            CancelledError: the run was asked to stop.
        """
        with self._changed:
            if self._closed:
                return
            self._works.append(work)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or len(self._works) >= self._expected, PATIENCE)
            leads, self._closed = not self._closed, True
            self._changed.notify_all()
        if leads:
            self._lead(work)
        while not self._done.wait(1.0):
            if work.context.stop():
                raise CancelledError("stopped on request")

    def _lead(self, work: StageWork) -> None:
        try:
            self._share(self._works)
        except CancelledError:
            raise
        except Exception as error:
            work.context.message(f"the shared pass of several {work.stage} steps ended early: {error}")
        finally:
            self._done.set()
