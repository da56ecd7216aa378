"""Shards on the cluster: what is recorded is not made again, failures are told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from infra.compute.cluster import Cluster
from infra.compute.fan_out import Job, fan_out, is_killed
from infra.errors import PermanentError, StillroomError
from infra.storage.stage_cache import StageCache, UnitRecord
from tasks.ingest.harvest import Harvest
from tasks.ingest.shard import STAGE, ShardJob, SourceChangedError, make_shard
from tasks.ingest.survey import Survey


@dataclass(frozen=True)
class Work:
    """What carrying out needs beside the jobs.

    `check` is called with the faults found so far, as messages, and raises when they are too many.
    """

    cluster: Cluster
    cache: StageCache
    survey: Survey
    attempts: int
    progress: Callable[[int, int], None]
    stop: Callable[[], bool] | None
    check: Callable[[Sequence[str]], None] = lambda bad: None
    verify: bool = False


def carry_out(work: Work, jobs: Iterable[ShardJob], total: int, *, reuse: bool) -> Harvest:
    """Make the shards; what has a record is not made again.

    Args:
        jobs: iterated twice where `reuse`; handed to workers as they become free.
        total: how many jobs there are.
        reuse: take up records of an earlier run.

    Raises:
        SourceChangedError: a source file changed under the run; its listing is dropped.
        PermanentError: a shard kills its workers.
    """
    harvest = Harvest()
    if reuse:
        keys = [job.key for job in jobs]
        for record in work.cache.each_recorded(STAGE, keys, verify=work.verify):
            harvest.add(record, made=False)
    work.check(harvest.faults)
    work.progress(len(harvest), total)
    if len(harvest) == total:
        return harvest
    # Closed at once on any error, so that nothing is left running on the cluster.
    calls = (Job(job.key, (job,)) for job in jobs if job.key not in harvest)
    with closing(fan_out(work.cluster, make_shard, calls, attempts=work.attempts, stop=work.stop)) as outcomes:
        for record in _landed(outcomes, work.survey):
            harvest.add(record)
            work.check(harvest.faults)
            work.progress(len(harvest), total)
    return harvest


def _landed(outcomes: Iterable[Any], survey: Survey) -> Iterator[UnitRecord]:
    for outcome in outcomes:
        if outcome.error is not None:
            raise _explained(outcome.error, outcome.job.args[0], survey) from outcome.error
        yield outcome.value


def _explained(error: BaseException, job: ShardJob, survey: Survey) -> BaseException:
    if isinstance(error, SourceChangedError):
        path = next(item.path for item in job.items if item.key == error.key)
        survey.listing.forget([survey.listed_as(path)])
        return SourceChangedError(str(error), error.key)
    if isinstance(error, StillroomError) and not is_killed(error):
        return error
    return PermanentError(
        f"shard {job.title}, images {job.items[0].key} to {job.items[-1].key}: {type(error).__name__}: {error}. "
        "If an image kills the worker, take it out of the corpus; a smaller ingest.shard_size narrows the search"
    )
