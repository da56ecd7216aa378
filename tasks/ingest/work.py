"""Shards on the cluster: what is recorded is not made again, failures are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from infra.cache import UnitRecord
from infra.cluster import Cluster
from infra.errors import PermanentError, StillroomError
from infra.fanout import Job, fan_out
from tasks.ingest.shard import ShardJob, SourceChangedError, make_shard
from tasks.ingest.survey import Survey


def carry_out(
    cluster: Cluster,
    jobs: Sequence[ShardJob],
    recorded: Mapping[str, UnitRecord],
    found: Survey,
    *,
    attempts: int,
    progress: Callable[[int, int], None],
    stop: Callable[[], bool] | None,
    check: Callable[[Sequence[str]], None] = lambda bad: None,
) -> dict[str, UnitRecord]:
    """Records of all jobs by key; those that are recorded need no worker.

    Args:
        check: called with the faults found so far, as messages; raises when they are too many.

    Raises:
        SourceChangedError: a source file changed under the run; its listing is dropped.
        PermanentError: a shard killed its worker twice.
    """
    records = dict(recorded)
    bad = [_told(q.source, q.reason) for job in jobs if job.key in records for q in records[job.key].quarantine]
    check(bad)
    todo = {job.key: job for job in jobs if job.key not in records}
    progress(len(jobs) - len(todo), len(jobs))
    if not todo:
        return records
    calls = [Job(key, (job,)) for key, job in todo.items()]
    # Closed at once on any error, so that nothing is left running on the cluster.
    with closing(fan_out(cluster, make_shard, calls, attempts=attempts, stop=stop)) as outcomes:
        for outcome in outcomes:
            job = todo[outcome.job.key]
            if outcome.error is not None:
                raise _explained(outcome.error, job, found) from outcome.error
            records[job.key] = outcome.value
            bad += [_told(q.source, q.reason) for q in outcome.value.quarantine]
            check(bad)
            progress(len(jobs) - len(todo) + sum(key in records for key in todo), len(jobs))
    return records


def _told(key: str, reason: str) -> str:
    return f"{key}: {reason}"


def _explained(error: BaseException, job: ShardJob, found: Survey) -> BaseException:
    if isinstance(error, SourceChangedError):
        path = next(item.path for item in job.items if item.key == error.key)
        found.listing.forget([found.listed_as(path)])
        return SourceChangedError(str(error), error.key)
    if isinstance(error, StillroomError):
        return error
    return PermanentError(
        f"shard {job.title}, images {job.items[0].key} to {job.items[-1].key}: {type(error).__name__}: {error}. "
        "If an image kills the worker, take it out of the corpus; a smaller ingest.shard_size narrows the search"
    )
