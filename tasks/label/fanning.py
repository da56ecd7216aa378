"""Label jobs on the cluster: one ahead that chooses engines, then all, then those that kill workers, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from infra.compute.cluster import Cluster
from infra.compute.crash_bisection import find_poison
from infra.compute.fan_out import Job, Outcome, fan_out, is_killed
from infra.compute.stopping import StopFlag
from infra.errors import BudgetError, PermanentError, StillroomError, UsageError, is_transient
from infra.storage.stage_cache import UnitRecord
from infra.storage.store import Store
from tasks.data.corpus import Corpus, Shard
from tasks.label.costs import Asked, foretold
from tasks.label.job import How, LabelJob
from tasks.label.units import Owing, Unit, jobs_of
from tasks.spec import Spec

JOBS_PER_SLOT = 4
"""Pieces a slot that a small corpus is cut into, so that no worker idles at the end."""

MAX_FAILED = 3
"""Shards that may fail altogether before the run stops; until then every other shard is done first."""

MAX_VIEWS = 8
"""Views of a shard in one job: rendered blocks of all of them stand in memory together."""


class Fanning:
    """One labelling on one cluster."""

    def __init__(
        self,
        corpus: Corpus,
        spec: Spec,
        store: Store,
        cluster: Cluster,
        how: How,
        resources: dict[str, float] | None,
        stop: Callable[[], bool] | None,
        say: Callable[[str], None],
    ) -> None:
        self.corpus, self.spec, self.store, self.cluster = corpus, spec, store, cluster
        self.how, self.resources, self.stop, self.say = how, resources, stop, say
        self._failed: list[StillroomError] = []
        self._kept_out: dict[str, str] = {}

    def run(self, owed: list[tuple[Owing, list[Unit]]], progress: Callable[[int], None]) -> None:
        """Make every unit that is owed; what is made is added to its owner.

        Raises:
            BudgetError, CorruptError, PermanentError, UsageError, CancelledError: see `tasks.label.stage.label`.
        """
        owner = {unit.key: own for own, units in owed for unit in units}
        done = 0
        with StopFlag(self.cluster) as flag:
            self.flag = flag
            for records in self._records(owed):
                for record in records:
                    owner[record.key].add(record)
                    self._kept_out.update({q.source: q.reason for q in record.quarantine})
                done += len(records)
                self._check_budget()
                progress(done)
        if self._failed:
            first = self._failed[0]
            more = f"; so do {len(self._failed) - 1} more" if len(self._failed) > 1 else ""
            raise type(first)(f"{first}{more}. Every other shard is labelled")

    def _records(self, owed: list[tuple[Owing, list[Unit]]]) -> Iterator[list[UnitRecord]]:
        from tasks.label.work import get_ready, label_shard

        due = sum(len(units) for _, units in owed)
        together = min(MAX_VIEWS, max(1, due // (JOBS_PER_SLOT * self.cluster.slots)))
        first = next(self._jobs(owed, together))
        # Alone, so that a choice of engines is made once, and on a machine that does nothing else.
        for outcome in self._outcomes(get_ready, iter([first])):
            self._ready(outcome)
            self._foretell(owed, outcome.value)
        killers: list[LabelJob] = []
        for outcome in self._outcomes(label_shard, self._jobs(owed, together)):
            if outcome.error is None:
                yield outcome.value
            elif is_killed(outcome.error):
                killers.append(outcome.job.args[0])
            else:
                self._fail(outcome)
        for job in killers:
            yield self._rescue(job)

    def _jobs(self, owed: list[tuple[Owing, list[Unit]]], together: int) -> Iterator[LabelJob]:
        recipe = owed[0][0].recipe
        for shard, asks in jobs_of(owed, together):
            yield LabelJob(self.store.url, self.corpus.title, shard, recipe, asks, self.how, topic=self.flag.topic)

    def _outcomes(self, function: Callable[..., Any], jobs: Iterator[LabelJob], *rest: Any) -> Iterator[Outcome]:
        calls = (Job(job.asks[0].views[0][1], (job, *rest)) for job in jobs)
        window = fan_out(
            self.cluster,
            function,
            calls,
            attempts=self.spec.run.attempts,
            resources=self.resources,
            stop=self.stop,
            flag=self.flag,
        )
        with closing(window) as outcomes:
            yield from outcomes

    def _ready(self, outcome: Outcome) -> None:
        if outcome.error is None:
            return
        if is_killed(outcome.error):
            raise PermanentError(
                "a worker died while it loaded the teachers: too little memory, or an engine that does not work on "
                "its machine; give workers more (run.cluster.memory_limit) or another run.label.engine"
            )
        raise self._explained(outcome)

    def _foretell(self, owed: list[tuple[Owing, list[Unit]]], ready: Sequence[Asked]) -> None:
        known = {asked.name: asked for asked in ready}
        for own, units in owed:
            asked = known.get(own.teacher.name, Asked(own.teacher.name, own.teacher.num_classes))
            rate = asked.rate * self.cluster.slots if asked.rate else None
            mixed = own.recipe.mix != "none"
            sizes = ((len(unit.shard), mixed and unit.view > 0) for unit in units)
            if units:
                self.say(foretold(replace(asked, rate=rate), sizes))

    def _fail(self, outcome: Outcome) -> None:
        error = self._explained(outcome)
        if isinstance(error, UsageError) or not isinstance(error, PermanentError):
            raise error
        self._failed.append(error)
        if len(self._failed) > MAX_FAILED:
            raise PermanentError(f"{len(self._failed)} shards failed, the last: {error}") from error

    def _explained(self, outcome: Outcome) -> BaseException:
        error = outcome.error
        assert error is not None
        if isinstance(error, StillroomError) or is_transient(error):
            return error
        shard: Shard = outcome.job.args[0].shard
        return PermanentError(
            f"labelling {shard.output.name} failed ({outcome.attempts} tries): {type(error).__name__}: {error}"
        )

    def _rescue(self, job: LabelJob) -> list[UnitRecord]:
        """Label a shard that kills workers without the rows that do it; the whole of it is kept out if it must be."""
        from tasks.label.work import label_shard

        found = self._one(autopsy, job)
        skip = {row: poison.why for poison in found for row in poison.rows}
        records = self._one(label_shard, replace(job, skip=tuple(sorted(skip.items())))) if skip else None
        if records is None:
            why = "the shard killed its worker again and again, though none of its images does alone"
            skip = {row: why for row in range(len(job.shard))}
            records = self._one(label_shard, replace(job, skip=tuple(skip.items())))
        if records is None:
            raise PermanentError(f"{job.shard.output.name}: workers die even when none of its images is read")
        return list(records)

    def _one(self, function: Callable[..., Any], job: LabelJob) -> Any:
        """What the function answers on a worker; None when it kills that too."""
        (outcome,) = self._outcomes(function, iter([job]))
        if outcome.error is None:
            return outcome.value
        if is_killed(outcome.error):
            return None
        raise self._explained(outcome)

    def _check_budget(self) -> None:
        section = self.spec.run.label
        rows = sum(len(shard) for shard in self.corpus.shards)
        allowed = max(section.max_bad, int(section.max_bad_share * rows))
        if len(self._kept_out) > allowed:
            source, reason = next(iter(self._kept_out.items()))
            raise BudgetError(
                f"{len(self._kept_out)} of {rows} samples had to be kept out, more than the {allowed} that "
                f"run.label.max_bad and max_bad_share allow; the first is {source}: {reason}"
            )


def autopsy(job: LabelJob) -> list[Any]:
    """On a worker: the rows of a shard that kill a process, found in processes of its own."""
    from tasks.label.work import probe

    return find_poison(probe, job, [row for row in range(len(job.shard)) if row not in dict(job.skip)])
