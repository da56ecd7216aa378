"""Shards on the cluster: those with a record are not made again, those that kill workers are made without the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from infra.compute.fan_out import Job, Outcome
from infra.errors import is_killed
from infra.storage.stage_cache import UnitRecord
from tasks.ingest.corpus_listing import ListedCorpus
from tasks.ingest.shard import STAGE, ShardJob, SourceChangedError, make_shard, probe_images
from tasks.ingest.shard_results import ShardResults
from tasks.pipeline.context import Context
from tasks.pipeline.units import outcomes, without_poison


def make_shards(
    context: Context,
    listed: ListedCorpus,
    jobs: Iterable[ShardJob],
    total: int,
    *,
    check: Callable[[Sequence[str]], None],
    reuse: bool,
) -> ShardResults:
    """Make shards; an image that kills its worker is quarantined alone.

    Args:
        listed: the corpus that the jobs read.
        jobs: iterated twice where `reuse`; handed to workers as they become free.
        total: how many jobs there are.
        check: called with the faults found so far, as messages; raises when they are too many.
        reuse: use the records of an earlier run.

    Raises:
        SourceChangedError: a source file changed during the run; its digest is dropped from the cache.
        PermanentError: a shard kills its workers, though none of its images does by itself.
    """
    results = ShardResults()
    if reuse:
        keys = [job.key for job in jobs]
        for record in context.cache.each_recorded(STAGE, keys, verify=context.run.verify):
            results.add(record, made=False)
    check(results.faults)
    context.progress(len(results), total)
    if len(results) == total:
        return results

    def add(record: UnitRecord) -> None:
        results.add(record)
        check(results.faults)
        context.progress(len(results), total)

    killers: list[ShardJob] = []
    seconds = context.run.image_seconds
    calls = (Job(job.key, (replace(job, image_seconds=seconds),)) for job in jobs if job.key not in results)
    # Closed at once on any error, so that nothing is left running on the cluster.
    with closing(outcomes(context, make_shard, calls, describe=_describe)) as found:
        for outcome in found:
            if is_killed(outcome.error):
                killers.append(outcome.job.args[0])
            else:
                add(_value(outcome, listed))
    for job in killers:
        add(_make_without_killers(context, listed, job))
    return results


def _make_without_killers(context: Context, listed: ListedCorpus, job: ShardJob) -> UnitRecord:
    def run(function: Callable[..., Any], job: ShardJob, more: tuple[Any, ...]) -> Outcome:
        with closing(outcomes(context, function, [Job(job.key, (job, *more))], describe=_describe)) as found:
            outcome = next(found)
        if not is_killed(outcome.error):
            _value(outcome, listed)
        return outcome

    rows = range(len(job.items))
    record: UnitRecord = without_poison(run, make_shard, probe_images, job, rows, _name(job), singly=True)
    return record


def _value(outcome: Outcome, listed: ListedCorpus) -> Any:
    error = outcome.error
    if error is None:
        return outcome.value
    if isinstance(error, SourceChangedError):
        path = next(item.path for item in outcome.job.args[0].items if item.key == error.key)
        listed.digest_cache.forget([listed.digest_cache.listed_name(path)])
        error = SourceChangedError(str(error), error.key)
    raise error from outcome.error


def _name(job: ShardJob) -> str:
    return f"shard {job.title}, images {job.items[0].key} to {job.items[-1].key}"


def _describe(job: Job) -> str:
    return _name(job.args[0])
