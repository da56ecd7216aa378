"""Label jobs on the cluster: one ahead that loads the teachers, then all, then those that kill workers, row by row.

Where measuring engines is expected to save time, one worker does that while the others label.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from infra.compute.cluster import Cluster
from infra.compute.fan_out import Job, Outcome
from infra.compute.stopping import StopFlag
from infra.errors import BudgetError, PermanentError, StillroomError, UsageError, is_killed
from infra.storage.stage_cache import UnitRecord
from tasks.data.corpus import Corpus
from tasks.label.costs import LabelRate, expected_cost_text
from tasks.label.job import InferenceSettings, LabelJob
from tasks.label.kept_rows import units_with_kept_rows
from tasks.label.teacher_units import LabelUnit, TeacherUnits, shard_requests
from tasks.pipeline.context import Context
from tasks.pipeline.rates import LABEL, label_details, remember_rate
from tasks.pipeline.units import outcomes, without_poison
from tasks.teachers.teacher import TeacherModel

JOBS_PER_SLOT = 4
"""Pieces a slot that a small corpus is cut into, so that no worker is without work at the end."""

MAX_FAILED = 3
"""Shards that may fail altogether before the run stops; until then every other shard is done first."""

MAX_VIEWS = 8
"""Views of a shard in one job: rendered blocks of all of them stand in memory together."""

Pending = Sequence[tuple[TeacherUnits, list[LabelUnit]]]
"""Teachers with the units that are to be made for them; no unit twice."""


class LabelFanOut:
    """One labelling of a corpus by one or more teachers.

    Args:
        context: its progress is not used.
        pending: at least one unit.
    """

    def __init__(self, context: Context, corpus: Corpus, pending: Pending) -> None:
        self.context, self.corpus, self.pending = context, corpus, pending
        device, self.resources = context.place()
        settings, cluster = context.run.label, context.cluster
        answers = sum(len(unit.shard) for _, units in pending for unit in units)
        self.inference = InferenceSettings(
            device=device,
            share=_jobs_per_machine(cluster),
            cores=settings.threads,
            engine=settings.engine,
            precision=settings.precision,
            batch=settings.batch,
            max_divergence=settings.max_divergence,
            many=corpus.task == "multilabel",
            # Teachers take turns on a shard, so that each has its share of every worker.
            passes=answers // max(1, cluster.slots) // max(1, sum(bool(units) for _, units in pending)),
            workers=max(1, cluster.slots),
        )
        self._failed: list[StillroomError] = []
        self._kept = units_with_kept_rows(context.store)

    def run(self, progress: Callable[[], None]) -> None:
        """Make every unit; each is added to its teacher's units as it comes.

        Args:
            progress: called after units were added.

        Raises:
            BudgetError, CorruptError, PermanentError, UsageError, CancelledError: see `tasks.label.stage.LabelWork`.
        """
        owner = {unit.key: own for own, units in self.pending for unit in units}
        with StopFlag(self.context.cluster) as flag:
            self.flag = flag
            for records in self._records():
                for record in records:
                    owner[record.key].add(record)
                for own in {id(own): own for own in (owner[record.key] for record in records)}.values():
                    check_budget(own, self.context)
                progress()
        if self._failed:
            first = self._failed[0]
            more = f"; so do {len(self._failed) - 1} more" if len(self._failed) > 1 else ""
            raise type(first)(f"{first}{more}. Every other shard is labelled")

    def _records(self) -> Iterator[list[UnitRecord]]:
        from tasks.label.label_shard import label_or_settle, label_shard, load_teachers, probe

        total = sum(len(units) for _, units in self.pending)
        together = min(MAX_VIEWS, max(1, total // (JOBS_PER_SLOT * self.context.cluster.slots)))
        first = next(self._jobs(together))
        # Alone, so that it is begun with one engine, and timed on a machine that does nothing else.
        (outcome,) = self._outcomes(load_teachers, [first])
        self._check_loaded(outcome)
        self._announce(outcome.value)
        jobs = self._jobs(together)
        if not all(rate.settled for rate in outcome.value):
            # A worker takes another engine before its next job: one view a job keeps the wait short.
            jobs = itertools.chain([replace(first, settle=True)], self._jobs(1))
        killers: list[LabelJob] = []
        for outcome in self._outcomes(label_or_settle, jobs):
            job: LabelJob = outcome.job.args[0]
            if job.settle:
                self._settled(outcome)
            elif outcome.error is None:
                yield outcome.value
            elif is_killed(outcome.error):
                killers.append(job)
            else:
                self._fail(outcome.error)
        for job in killers:
            rows = [row for row in range(len(job.shard)) if row not in dict(job.skip)]
            yield list(without_poison(self._one, label_shard, probe, job, rows, job.shard.output.name))

    def _jobs(self, together: int) -> Iterator[LabelJob]:
        url, recipe = self.context.store.url, self.pending[0][0].recipe
        for shard, requests in shard_requests(self.pending, together, self._kept):
            yield LabelJob(url, self.corpus.title, shard, recipe, requests, self.inference, topic=self.flag.topic)

    def _outcomes(self, function: Callable[..., Any], jobs: Iterable[LabelJob], *more: Any) -> Iterator[Outcome]:
        return outcomes(
            self.context,
            function,
            (Job(_key(job), (job, *more)) for job in jobs),
            describe=lambda job: (
                "measuring engines failed"
                if job.args[0].settle
                else f"labelling {job.args[0].shard.output.name} failed"
            ),
            resources=self.resources,
            flag=self.flag,
        )

    def _one(self, function: Callable[..., Any], job: LabelJob, more: tuple[Any, ...]) -> Outcome:
        (outcome,) = self._outcomes(function, [job], *more)
        return outcome

    def _check_loaded(self, outcome: Outcome) -> None:
        if outcome.error is None:
            return
        if is_killed(outcome.error):
            raise PermanentError(
                "a worker died while it loaded the teachers: too little memory, or an engine that does not work on "
                "its machine; give workers more (run.cluster.memory_limit) or another run.label.engine"
            )
        raise outcome.error

    def _announce(self, loaded: Sequence[LabelRate]) -> None:
        known = {rate.name: rate for rate in loaded}
        for own, units in self.pending:
            one = known.get(own.teacher.name, LabelRate(own.teacher.name, own.teacher.num_classes))
            if one.settled:
                self._remember(own.teacher, one.rate)
            rate = one.rate * self.context.cluster.slots if one.rate else None
            mixed = own.recipe.mix != "none"
            sizes = ((len(unit.shard), mixed and unit.view > 0) for unit in units)
            if units:
                self.context.message(expected_cost_text(replace(one, rate=rate), sizes))

    def _settled(self, outcome: Outcome) -> None:
        """Tell what was selected; where measuring failed, labelling goes on with the engine that it began with."""
        if outcome.error is not None:
            self.context.message(f"engines were not measured, labelling goes on as it began: {outcome.error}")
            return
        teachers = {own.teacher.name: own.teacher for own, _ in self.pending}
        for rate in outcome.value:
            self._remember(teachers[rate.name], rate.rate)
            speed = f", {rate.rate * self.context.cluster.slots:,.0f} images/s" if rate.rate else ""
            self.context.message(f"teacher {rate.name} goes on with {rate.engine}{speed}")

    def _remember(self, teacher: TeacherModel, rate: float | None) -> None:
        """Leave the rate of one worker of this machine for `plan`."""
        how = self.inference
        if rate and teacher.kind == "network" and self.context.cluster.here:
            details = label_details(
                teacher.model,
                teacher.options,
                size=teacher.size,
                classes=teacher.num_classes,
                features=teacher.features,
                engine=how.engine,
                precision=how.precision,
                batch=how.batch,
                device=how.device,
                threads=how.threads,
            )
            remember_rate(LABEL, details, rate)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, UsageError) or not isinstance(error, PermanentError):
            raise error
        self._failed.append(error)
        if len(self._failed) > MAX_FAILED:
            raise PermanentError(f"{len(self._failed)} shards failed, the last: {error}") from error


def check_budget(own: TeacherUnits, context: Context) -> None:
    """Compare the samples that had to be kept out with `run.label`.

    Raises:
        BudgetError: they are more than it allows.
    """
    kept_out, allowed = own.kept_out(), allowed_bad(own, context)
    rows = sum(len(shard) for shard in own.corpus.shards)
    if len(kept_out) > allowed:
        source, reason = next(iter(kept_out.items()))
        raise BudgetError(
            f"{len(kept_out)} of {rows} samples had to be kept out, more than the {allowed} that "
            f"run.label.max_bad and max_bad_share allow; the first is {source}: {reason}. Once the cause is gone, "
            "--retry-quarantined asks for them again"
        )


def allowed_bad(own: TeacherUnits, context: Context) -> int:
    """Samples that may be kept out of a teacher's labels, by `run.label`."""
    section = context.run.label
    return max(section.max_bad, int(section.max_bad_share * sum(len(shard) for shard in own.corpus.shards)))


def _key(job: LabelJob) -> str:
    own = job.requests[0].views[0][1]
    return f"engines-{own}" if job.settle else own


def _jobs_per_machine(cluster: Cluster) -> int:
    """Jobs that the busiest machine of the cluster runs at once."""
    slots: Counter[str] = Counter()
    for worker in cluster.client.scheduler_info(n_workers=-1)["workers"].values():
        slots[worker["host"]] += worker["nthreads"]
    return max(slots.values(), default=1)
