"""A sliding window of Dask futures, one per shard (DESIGN: rules that experiments settled).

Dask may run a function twice, and a dying worker may blame an innocent neighbour: shard functions are
idempotent, attempts are counted here, and a shard whose worker died is tried again alone before it is
called poison.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from infra.cluster import Cluster
from infra.errors import CancelledError, TransientError, is_transient
from infra.settings import settings


@dataclass(frozen=True)
class Job:
    """One call for a worker: `function(*args)`, both picklable by reference and small."""

    key: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """How a job ended: a value, or the error of its last attempt."""

    job: Job
    value: Any = None
    error: BaseException | None = None
    attempts: int = 1


def fan_out(
    cluster: Cluster,
    function: Callable[..., Any],
    jobs: Iterable[Job],
    *,
    window: int | None = None,
    attempts: int = 3,
    resources: dict[str, float] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Generator[Outcome, None, None]:
    """Run every job on the cluster and yield outcomes as they come.

    Args:
        window: jobs in flight; default slots times `cluster.section.window`.
        attempts: tries of a job after transient errors.
        resources: Dask resources a job needs, such as `{"GPU": 1}`.
        stop: asked between results and every `STILLROOM_POLL` seconds; CancelledError when it says yes.
    """
    flight = _Flight(cluster, function, resources)
    limit = window or cluster.slots * cluster.section.window
    todo = iter(jobs)
    again: deque[tuple[Job, int]] = deque()
    suspects: deque[tuple[Job, int]] = deque()

    def refill() -> None:
        while len(flight) < limit:
            if again:
                flight.launch(*again.popleft())
            elif (job := next(todo, None)) is not None:
                flight.launch(job, 1)
            else:
                break
        if not len(flight) and suspects:
            flight.launch(*suspects.popleft())

    try:
        refill()
        while len(flight):
            landed = flight.land(settings().poll)
            if stop is not None and stop():
                raise CancelledError("stopped on request")
            if landed is None:
                continue
            outcome = landed
            if outcome.error is not None and _killed(outcome.error) and outcome.attempts < 2:
                suspects.append((outcome.job, outcome.attempts + 1))
                refill()
            elif outcome.error is not None and is_transient(outcome.error) and outcome.attempts < attempts:
                again.append((outcome.job, outcome.attempts + 1))
                refill()
            else:
                refill()
                yield outcome
    finally:
        flight.cancel()


class _Flight:
    """Futures that are under way, and a queue of those that have ended."""

    def __init__(self, cluster: Cluster, function: Callable[..., Any], resources: dict[str, float] | None) -> None:
        self.client, self.function, self.resources = cluster.client, function, resources
        self._futures: dict[str, tuple[Any, Job, int]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._futures)

    def launch(self, job: Job, tries: int) -> None:
        future = self.client.submit(self.function, *job.args, pure=False, resources=self.resources)
        self._futures[future.key] = (future, job, tries)
        future.add_done_callback(lambda done: self._ended.put(done.key))

    def land(self, timeout: float) -> Outcome | None:
        """The next outcome, or None when nothing ended in time; TransientError when the scheduler is gone."""
        try:
            key = self._ended.get(timeout=timeout)
        except queue.Empty:
            key = None
        # Futures of a scheduler that is gone are lost one by one or not at all; none of them will land.
        if self.client.status != "running":
            raise TransientError("the Dask scheduler is gone; what was made stays in the store, run again")
        if key is None:
            return None
        future, job, tries = self._futures.pop(key)
        try:
            if future.status == "finished":
                return Outcome(job, value=future.result(), attempts=tries)
            error = future.exception() if future.status == "error" else ConnectionError(f"task {future.status}")
            return Outcome(job, error=error, attempts=tries)
        finally:
            future.release()

    def cancel(self) -> None:
        if self.client.status == "running":
            for future, _, _ in self._futures.values():
                future.cancel()
        self._futures.clear()


def _killed(error: BaseException) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)
