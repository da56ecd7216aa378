"""A sliding window of Dask futures, one per shard (DESIGN: rules that experiments settled).

Dask may run a function twice, and a dying worker may blame an innocent neighbour: shard functions are
idempotent, attempts are counted here, and a shard is called poison only after workers died of it alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from infra.compute.cluster import Cluster
from infra.compute.running_tasks import EndedJob, Ending, RunningTasks
from infra.compute.stopping import StopFlag
from infra.errors import CancelledError, PoisonError, is_transient
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
    deaths: int = 3,
    resources: dict[str, float] | None = None,
    stop: Callable[[], bool] | None = None,
    flag: StopFlag | None = None,
) -> Generator[Outcome, None, None]:
    """Run every job on the cluster and yield outcomes as they come.

    Args:
        window: Dask tasks that run or wait at once, one job each unless jobs take milliseconds
            (`infra.compute.bundle`); default slots times `cluster.section.window`.
        attempts: tries of a job after transient errors.
        deaths: workers that must die of a job that runs alone before its error is a PoisonError; one of them may
            die by chance.
        resources: Dask resources that a job needs, such as `{"GPU": 1}`.
        stop: asked between results and every `STILLROOM_POLL` seconds; CancelledError when it says yes.
        flag: raised when jobs are given up while workers run them: on a stop, on an error, or when the generator
            is closed early.

    Raises:
        CancelledError: `stop` said yes.
        TransientError: the scheduler is gone, or had no worker for `cluster.worker_timeout` seconds.
        UsageError: no worker had the resources for that long.
    """
    running = RunningTasks(cluster, function, _args, resources)
    queue = _RetryQueue(jobs, attempts, deaths)

    def refill() -> None:
        limit = window or running.slots * cluster.section.window
        while len(running) < limit and (tracked := queue.next(running.jobs_per_task)):
            running.submit(tracked, suspect=any(one.blamed for one in tracked))
        if not len(running) and queue.suspects:
            running.submit([queue.suspects.popleft()], suspect=True, alone=True)

    try:
        refill()
        while len(running):
            ended = running.collect(settings().poll)
            if stop is not None and stop():
                raise CancelledError("stopped on request")
            outcomes = list(queue.settle(ended))
            refill()
            yield from outcomes
    finally:
        if flag is not None and len(running):
            flag.raise_it()
        running.cancel()


@dataclass
class _TrackedJob:
    """A job and its attempts so far."""

    job: Job
    attempts: int = 0
    failures: int = 0  # transient errors
    blamed: int = 0  # workers that died while it and others were running
    killed: int = 0  # workers that died while it alone was running


def _args(tracked: _TrackedJob) -> tuple[Any, ...]:
    return tracked.job.args


class _RetryQueue:
    """Decides which jobs are tried next, and which have ended.

    Dask blames all that a dead worker held, begun or not. A job that is blamed once goes back among the others: a
    worker that dies by chance then costs no more than its work. A job that is blamed twice is a suspect.
    """

    def __init__(self, jobs: Iterable[Job], attempts: int, deaths: int) -> None:
        self._new, self._attempts, self._deaths = iter(jobs), attempts, deaths
        self._left_out: deque[_TrackedJob] = deque()
        self._again: deque[_TrackedJob] = deque()
        # Run when nothing else is left: to empty the cluster for each of them would cost more than they do.
        self.suspects: deque[_TrackedJob] = deque()

    def next(self, most: int) -> list[_TrackedJob]:
        """Up to `most` jobs for one task; a job that failed before gets a task of its own."""
        if self._again:
            return [self._again.popleft()]
        tracked: list[_TrackedJob] = []
        while len(tracked) < most:
            if self._left_out:
                tracked.append(self._left_out.popleft())
            elif (job := next(self._new, None)) is not None:
                tracked.append(_TrackedJob(job))
            else:
                break
        return tracked

    def settle(self, ended: Iterable[EndedJob[_TrackedJob]]) -> Iterator[Outcome]:
        """Outcomes of the jobs that are not tried again; the others are queued."""
        for one in ended:
            tracked, transient = one.job, one.error is not None and is_transient(one.error)
            if one.ending is Ending.LEFT_OUT:
                self._left_out.append(tracked)
                continue
            if one.ending is Ending.UNCLEAR and not transient:
                self._again.append(tracked)
                continue
            tracked.attempts += 1
            if one.ending is Ending.KILLED:
                yield from self._after_death(tracked, one)
            elif transient and tracked.failures + 1 < self._attempts:
                tracked.failures += 1
                self._again.append(tracked)
            else:
                yield Outcome(tracked.job, one.value, one.error, tracked.attempts)

    def _after_death(self, tracked: _TrackedJob, one: EndedJob[_TrackedJob]) -> Iterator[Outcome]:
        if not one.alone:
            tracked.blamed += 1
            (self._again if tracked.blamed == 1 else self.suspects).append(tracked)
        elif tracked.killed + 1 < self._deaths:
            tracked.killed += 1
            self.suspects.append(tracked)
        else:
            poison = PoisonError(
                f"{tracked.job.key}: {tracked.killed + 1} workers died of it while they had nothing else to do; "
                f"the scheduler says: {one.error}"
            )
            poison.__cause__ = one.error
            yield Outcome(tracked.job, error=poison, attempts=tracked.attempts)
