"""Stop requests for running work: a flag on the scheduler, raised by the driver, read by the workers.

Cancelling a Dask future ends a task that waits; one that runs goes on to its end. Long shard functions and
trainings therefore ask between batches. `distributed.Event` keeps the flag; a worker asks for it over the
connection it has, because `Event` itself would start a second client inside the worker. A driver that was killed
raises no flag; workers of a scheduler that outlives it see that nobody waits for the task any more.

A worker that is closed (SIGTERM, its `--lifetime`, the end of a SLURM job) ends a few seconds later, and
Dask does not inform its tasks; those that call `preemption_check` between batches find out in time to save their state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any
from uuid import uuid4

from infra.compute.cluster import Cluster
from infra.errors import CancelledError

EVERY = 2.0
"""Seconds between two questions of one `stop_check` to the scheduler."""


class StopFlag:
    """The driver's side: `with StopFlag(cluster) as flag`, its `topic` sent with the jobs.

    Leaving the block by an exception raises the flag, so that no worker goes on with work whose result is not needed.
    """

    def __init__(self, cluster: Cluster) -> None:
        # The random part keeps a flag of an earlier run from stopping work of a later one.
        self.topic = f"stillroom-stop-{uuid4().hex}"
        self.raised = False
        self._cluster = cluster
        self._client: Any = None

    def raise_it(self) -> None:
        """Ask all work with this topic to stop; a scheduler that is gone has no work left to ask."""
        if self.raised or self._client is None or self._client.status != "running":
            return
        from distributed import Event

        Event(self.topic, client=self._client).set()
        self.raised = True

    def __enter__(self) -> StopFlag:
        # Held, not looked up again: the handle would start a new cluster in place of one that died.
        self._client = self._cluster.client
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.raise_it()


def stop_check(topic: str, *, every: float = EVERY) -> Callable[[], None]:
    """The worker's side: a function to call between batches; it raises CancelledError once the flag is up.

    Args:
        topic: `StopFlag.topic`; "" never stops.
        every: seconds between two questions to the scheduler; calls in between cost nothing.
    """
    if not topic:
        return lambda: None
    from distributed import get_worker
    from distributed.utils import sync

    worker, asked = get_worker(), time.monotonic()
    task = _current_task(worker)

    def check() -> None:
        nonlocal asked
        # A worker that closes has no connection left to ask over.
        if time.monotonic() - asked < every or _closes(worker):
            return
        asked = time.monotonic()
        if _given_up(worker, task):
            raise CancelledError("nobody waits for this work any more")
        try:
            stopped = sync(worker.loop, worker.scheduler.event_is_set, name=topic)
        except OSError:
            return  # A scheduler that does not answer has asked nothing; the worker ends by itself when it is gone.
        if stopped:
            raise CancelledError("stopped on request")

    return check


def preemption_check() -> Callable[[], bool]:
    """The worker's side: a function to call between batches; it says whether this worker is about to close.

    It costs nothing, and is never true outside of a worker.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return lambda: False
    return lambda: _closes(worker)


def _current_task(worker: Any) -> str | None:
    try:
        return str(worker.get_current_task())
    except KeyError:
        return None  # a thread of somebody else's


def _given_up(worker: Any, task: str | None) -> bool:
    """Whether the client that submitted a task is gone or has cancelled it; a thread that runs it is not told."""
    if task is None:
        return False
    known = worker.state.tasks.get(task)
    return known is None or known.state == "cancelled"


def _closes(worker: Any) -> bool:
    from distributed import Status

    return worker.status not in (Status.init, Status.running, Status.paused)
