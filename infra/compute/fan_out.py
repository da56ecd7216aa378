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
from infra.compute.futures import Fate, Flight, Landed
from infra.compute.stopping import StopFlag
from infra.errors import CancelledError, PermanentError, is_transient
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


class PoisonError(PermanentError):
    """A job that kills the workers that run it."""


def is_killed(error: BaseException | None) -> bool:
    """Whether an outcome's error says that its job kills workers."""
    return isinstance(error, PoisonError)


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
        window: Dask tasks in flight, one job each unless jobs take milliseconds (`infra.compute.bundle`); default slots
            times `cluster.section.window`.
        attempts: tries of a job after transient errors.
        deaths: workers that must die of a job that runs alone before its error is a PoisonError; one of them may
            die by chance.
        resources: Dask resources a job needs, such as `{"GPU": 1}`.
        stop: asked between results and every `STILLROOM_POLL` seconds; CancelledError when it says yes.
        flag: raised when jobs are given up while workers run them: on a stop, on an error, or when the generator
            is closed early.

    Raises:
        CancelledError: `stop` said yes.
        TransientError: the scheduler is gone, or had no worker for `cluster.patience` seconds.
        UsageError: no worker had the resources for that long.
    """
    flight = Flight(cluster, function, _args, resources)
    desk = _Desk(jobs, attempts, deaths)

    def refill() -> None:
        limit = window or flight.slots * cluster.section.window
        while len(flight) < limit and (cases := desk.next(flight.bundle)):
            flight.launch(cases, deadly=any(case.blamed for case in cases))
        if not len(flight) and desk.suspects:
            flight.launch([desk.suspects.popleft()], deadly=True, alone=True)

    try:
        refill()
        while len(flight):
            landed = flight.land(settings().poll)
            if stop is not None and stop():
                raise CancelledError("stopped on request")
            done = list(desk.judge(landed))
            refill()
            yield from done
    finally:
        if flag is not None and len(flight):
            flag.raise_it()
        flight.cancel()


@dataclass
class _Case:
    """A job and what became of it so far."""

    job: Job
    attempts: int = 0
    failures: int = 0  # transient errors
    blamed: int = 0  # workers that died with it and others
    killed: int = 0  # workers that died while it alone was under way


def _args(case: _Case) -> tuple[Any, ...]:
    return case.job.args


class _Desk:
    """Decides what is tried next, and what is at its end.

    Dask blames all that a dead worker held, begun or not. A job that is blamed once goes back among the others: a
    worker that dies by chance then costs no more than its work. One that is blamed twice is a suspect.
    """

    def __init__(self, jobs: Iterable[Job], attempts: int, deaths: int) -> None:
        self._todo, self._attempts, self._deaths = iter(jobs), attempts, deaths
        self._left_out: deque[_Case] = deque()
        self._again: deque[_Case] = deque()
        # Run when nothing else is left: to empty the cluster for each of them would cost more than they do.
        self.suspects: deque[_Case] = deque()

    def next(self, most: int) -> list[_Case]:
        """Up to `most` cases for one task; one that went wrong before travels by itself."""
        if self._again:
            return [self._again.popleft()]
        cases: list[_Case] = []
        while len(cases) < most:
            if self._left_out:
                cases.append(self._left_out.popleft())
            elif (job := next(self._todo, None)) is not None:
                cases.append(_Case(job))
            else:
                break
        return cases

    def judge(self, landed: Iterable[Landed[_Case]]) -> Iterator[Outcome]:
        """Outcomes of the cases that are at their end; the others are queued again."""
        for one in landed:
            case, transient = one.case, one.error is not None and is_transient(one.error)
            if one.fate is Fate.LEFT_OUT:
                self._left_out.append(case)
                continue
            if one.fate is Fate.UNCLEAR and not transient:
                self._again.append(case)
                continue
            case.attempts += 1
            if one.fate is Fate.KILLED:
                yield from self._bury(case, one)
            elif transient and case.failures + 1 < self._attempts:
                case.failures += 1
                self._again.append(case)
            else:
                yield Outcome(case.job, one.value, one.error, case.attempts)

    def _bury(self, case: _Case, one: Landed[_Case]) -> Iterator[Outcome]:
        if not one.alone:
            case.blamed += 1
            (self._again if case.blamed == 1 else self.suspects).append(case)
        elif case.killed + 1 < self._deaths:
            case.killed += 1
            self.suspects.append(case)
        else:
            poison = PoisonError(
                f"{case.job.key}: {case.killed + 1} workers died of it while they had nothing else to do; "
                f"the scheduler says: {one.error}"
            )
            poison.__cause__ = one.error
            yield Outcome(case.job, error=poison, attempts=case.attempts)
