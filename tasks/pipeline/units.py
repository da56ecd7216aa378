"""Units of a stage on the cluster: one window of jobs, one translation of errors, one search for poison rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from infra.compute.crash_bisection import Poison, find_poison
from infra.compute.fan_out import Job, Outcome, fan_out
from infra.compute.stopping import StopFlag
from infra.disk_errors import disk_error
from infra.errors import PermanentError, explained, is_killed
from tasks.pipeline.context import Context


def outcomes(
    context: Context,
    function: Callable[..., Any],
    jobs: Iterable[Job],
    *,
    describe: Callable[[Job], str],
    resources: dict[str, float] | None = None,
    flag: StopFlag | None = None,
) -> Generator[Outcome, None, None]:
    """Run every job on the cluster; outcomes as they come, errors translated by `infra.errors.explained`.

    Args:
        describe: what a job is, for the message of its error, such as `labelling shards/x/train-00000.tar`.
        resources: Dask resources that a job needs.
        flag: raised when jobs are given up while workers run them.

    Raises:
        CancelledError: the run was asked to stop.
        TransientError: the scheduler or every worker is gone.
    """
    window = fan_out(
        context.cluster,
        function,
        jobs,
        attempts=context.run.attempts,
        resources=resources,
        stop=context.stop,
        flag=flag,
    )
    with closing(window) as found:
        for outcome in found:
            if outcome.error is None:
                yield outcome
            else:
                error = disk_error(outcome.error) or explained(outcome.error, describe(outcome.job))
                yield replace(outcome, error=error)


def without_poison(
    run: Callable[[Callable[..., Any], Any, tuple[Any, ...]], Outcome],
    function: Callable[[Any], Any],
    probe: Callable[[Any, Sequence[int]], None],
    job: Any,
    rows: Sequence[int],
    name: str,
    *,
    singly: bool = False,
) -> Any:
    """Run a job that kills its workers without the rows that do it.

    The rows are found by bisection in child processes of a worker (`infra.compute.crash_bisection`).

    Args:
        run: `run(f, job, more) -> Outcome` calls `f(job, *more)` on a worker.
        function: makes the job; the job is a dataclass with `skip: tuple[tuple[int, str], ...]`, rows that must not be
            touched, and why.
        probe: does with some rows of the job all that `function` does, but stores nothing.
        rows: that the job reads.
        name: of the job, for messages.
        singly: leave out only rows that kill by themselves; otherwise, where the job still does, all of its rows are.

    Raises:
        PermanentError: workers die even when no row is read; or, with `singly`, though no row kills by itself.
    """

    def one(f: Callable[..., Any], job: Any, *more: Any) -> Any:
        outcome = run(f, job, more)
        if outcome.error is None:
            return outcome.value
        if is_killed(outcome.error):
            return None
        raise outcome.error

    before = dict(job.skip)
    found = one(poison_rows, job, probe, tuple(rows)) or []
    skip = before | {row: p.why for p in found if not singly or len(p.rows) == 1 for row in p.rows}
    value = one(function, replace(job, skip=tuple(sorted(skip.items())))) if len(skip) > len(before) else None
    if value is None and singly:
        raise PermanentError(
            f"{name}: workers die of it, though none of its images kills a process by itself; give workers more memory "
            "(run.cluster.memory_limit), or make fewer images a unit (ingest.shard_size)"
        )
    if value is None:
        why = f"{name} killed its worker again and again, though none of its images does alone"
        skip = before | dict.fromkeys(rows, why)
        value = one(function, replace(job, skip=tuple(sorted(skip.items()))))
    if value is None:
        raise PermanentError(f"{name}: workers die even when none of its images is read")
    return value


def poison_rows(job: Any, probe: Callable[[Any, Sequence[int]], None], rows: Sequence[int]) -> list[Poison]:
    """On a worker: the rows of a job that kill a process, found in child processes."""
    return find_poison(probe, job, rows)
