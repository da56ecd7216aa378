"""A sliding window of Dask futures, one per shard (DESIGN: rules that experiments settled).

Dask may run a function twice, and a dying worker may blame an innocent neighbour: shard functions are
idempotent, attempts are counted here, and a shard whose worker died is tried again alone before it is
called poison.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from infra.cluster import Cluster
from infra.errors import CancelledError, is_transient


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
) -> Iterator[Outcome]:
    """Run every job on the cluster and yield outcomes as they come.

    Args:
        window: jobs in flight; default slots times `cluster.section.window`.
        attempts: tries of a job after transient errors.
        resources: Dask resources a job needs, such as `{"GPU": 1}`.
        stop: asked between results; CancelledError when it says yes.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    client = cluster.client
    limit = window or cluster.slots * cluster.section.window
    todo: Iterator[Job] = iter(jobs)
    again: deque[tuple[Job, int]] = deque()
    suspects: deque[tuple[Job, int]] = deque()
    flying: dict[Any, tuple[Job, int]] = {}
    completed = as_completed(raise_errors=False)

    def launch(job: Job, tries: int) -> None:
        future = client.submit(function, *job.args, pure=False, retries=0, resources=resources)
        flying[future] = (job, tries)
        completed.add(future)

    def refill() -> None:
        while len(flying) < limit:
            if again:
                launch(*again.popleft())
                continue
            job = next(todo, None)
            if job is None:
                break
            launch(job, 1)
        if not flying and suspects:
            launch(*suspects.popleft())

    try:
        refill()
        while flying:
            future = next(completed)
            if stop is not None and stop():
                raise CancelledError("stopped on request")
            job, tries = flying.pop(future)
            error = future.exception() if future.status != "finished" else None
            if error is None:
                outcome = Outcome(job, value=future.result(), attempts=tries)
            elif isinstance(error, KilledWorker) and tries < 2:
                suspects.append((job, tries + 1))
                outcome = None
            elif is_transient(error) and tries < attempts:
                again.append((job, tries + 1))
                outcome = None
            else:
                outcome = Outcome(job, error=error, attempts=tries)
            future.release()
            del future
            refill()
            if outcome is not None:
                yield outcome
    finally:
        for future in flying:
            future.cancel()
