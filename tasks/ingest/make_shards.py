"""Shards on the cluster: those with a record are not made again, those that kill workers are made without the cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from infra.compute.fan_out import Job, Outcome
from infra.errors import is_killed
from tasks.ingest.corpus_listing import ListedCorpus
from tasks.ingest.shard import STAGE, ShardJob, SourceChangedError, make_shard, probe_images
from tasks.ingest.shard_results import ShardResults
from tasks.pipeline.context import Context
from tasks.pipeline.rates import INGEST, ingest_details, remember_rate
from tasks.pipeline.units import outcomes, without_poison
from tasks.preprocessing.stored_image import recipe_of

SECONDS_FOR_A_RATE = 5.0
"""Making shards must take as long before its rate says something of a larger corpus."""


def make_shards(
    context: Context,
    listed: ListedCorpus,
    jobs: Iterable[ShardJob],
    total: int,
    *,
    check: Callable[[Sequence[str]], None],
    reuse: bool,
) -> ShardResults:
    """Make shards; an image that kills its worker is quarantined alone. The rate is remembered for plans.

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
    start = time.monotonic()
    results = _made(context, listed, jobs, total, check, reuse)
    seconds = time.monotonic() - start
    if seconds >= SECONDS_FOR_A_RATE and context.cluster.here:
        recipe = asdict(recipe_of(listed.scanned.section))
        details = ingest_details(listed.scanned.corpus.title, recipe, workers=context.cluster.slots)
        remember_rate(INGEST, details, results.images_made / seconds)
    return results


def _made(
    context: Context,
    listed: ListedCorpus,
    jobs: Iterable[ShardJob],
    total: int,
    check: Callable[[Sequence[str]], None],
    reuse: bool,
) -> ShardResults:
    results = ShardResults()
    if reuse:
        keys = [job.key for job in jobs]
        for record in context.cache.each_recorded(STAGE, keys, verify=context.run.verify):
            results.add(record, made=False)
    check(results.faults)
    context.progress(len(results), total)
    if len(results) == total:
        return results

    waiting = (job for job in jobs if job.key not in results)
    # Closed at once on any error, so that nothing is left running on the cluster.
    with closing(each_done(context, listed, make_shard, probe_images, waiting)) as records:
        for record in records:
            results.add(record)
            check(results.faults)
            context.progress(len(results), total)
    return results


def each_done(
    context: Context,
    listed: ListedCorpus,
    function: Callable[[ShardJob], Any],
    probe: Callable[[ShardJob, Sequence[int]], None],
    jobs: Iterable[ShardJob],
) -> Generator[Any, None, None]:
    """What `function` makes of each job on the cluster, as it comes; images that kill their workers are skipped.

    Args:
        listed: the corpus that the jobs read.
        probe: does with some rows of a job all that `function` does, and keeps nothing.

    Raises:
        SourceChangedError: a source file changed during the run; its digest is dropped from the cache.
        PermanentError: a job kills its workers, though none of its images does by itself.
    """
    killers: list[ShardJob] = []
    seconds = context.run.image_seconds
    calls = (Job(job.key, (replace(job, image_seconds=seconds),)) for job in jobs)
    with closing(outcomes(context, function, calls, describe=_describe)) as found:
        for outcome in found:
            if is_killed(outcome.error):
                killers.append(outcome.job.args[0])
            else:
                yield _value(outcome, listed)
    for job in killers:
        yield _done_without_killers(context, listed, function, probe, job)


def _done_without_killers(
    context: Context,
    listed: ListedCorpus,
    function: Callable[[ShardJob], Any],
    probe: Callable[[ShardJob, Sequence[int]], None],
    job: ShardJob,
) -> Any:
    def run(function: Callable[..., Any], job: ShardJob, more: tuple[Any, ...]) -> Outcome:
        with closing(outcomes(context, function, [Job(job.key, (job, *more))], describe=_describe)) as found:
            outcome = next(found)
        if not is_killed(outcome.error):
            _value(outcome, listed)
        return outcome

    rows = range(len(job.items))
    return without_poison(run, function, probe, job, rows, job.about, singly=True)


def _value(outcome: Outcome, listed: ListedCorpus) -> Any:
    error = outcome.error
    if error is None:
        return outcome.value
    if isinstance(error, SourceChangedError):
        path = next(item.path for item in outcome.job.args[0].items if item.key == error.key)
        listed.digest_cache.forget([listed.digest_cache.listed_name(path)])
        error = SourceChangedError(str(error), error.key)
    raise error from outcome.error


def _describe(job: Job) -> str:
    about: str = job.args[0].about
    return about
