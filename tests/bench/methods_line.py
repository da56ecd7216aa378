"""The real stages, one after the other on one store and one local cluster, for several arms of one comparison.

Every finished stage is found again by its key, so a table that was killed goes on where it was.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.compute.cluster import Cluster
from infra.digest import digest_of
from infra.errors import PermanentError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import open_store
from tasks.data.corpus import Corpus
from tasks.distill.stage import StudentTraining, teach
from tasks.evaluate.stage import evaluate
from tasks.ingest.stage import ingest
from tasks.label.stage import LabelWork, TeacherHandle, label_together, teacher_handle
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult, run_stage
from tasks.select import select
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tests.bench.methods_figures import Metrics


@dataclass(frozen=True)
class Arm:
    """One row of a comparison.

    Attributes:
        words: what people read.
        change: keys of the spec that differ from the corpus's own, nested as in the spec.
        teachers: names of those who teach; empty: labels alone.
        beside: the arm that this one differs from in one thing; "": none.
    """

    name: str
    words: str
    change: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    beside: str = ""


Done = Callable[[Arm, int, Manifest, float | None], None]


class Line:
    """The stages on one store.

    Args:
        raw: spec before it is checked.
        side_by_side: trainings at once; None: one a task slot of the cluster.
    """

    def __init__(self, raw: Mapping[str, Any], cluster: Cluster, *, side_by_side: int | None = None) -> None:
        self.raw, self.cluster = dict(raw), cluster
        self.spec = Spec.model_validate(self.raw)
        Path(self.spec.store).mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.spec.store)
        self.corpus = Corpus(self.store, ingest(Context(self.store, cluster, self.spec.run), self.spec).manifest)
        self._side_by_side = side_by_side or cluster.slots
        self._teachers: dict[str, Manifest] = {}
        self._asked_to_stop = threading.Event()

    def _context(self) -> Context:
        return Context(self.store, self.cluster, self.spec.run)

    def spec_of(self, arm: Arm) -> Spec:
        """The corpus's spec with what the arm changes and with its teachers alone."""
        raw = merged(self.raw, arm.change)
        if arm.teachers:
            raw["teachers"] = [t for t in raw["teachers"] if t["name"] in arm.teachers]
        return Spec.model_validate(raw)

    def teacher(self, name: str) -> Manifest:
        """A fine-tuned teacher: the same one for every arm, whatever the arm changes."""
        if name not in self._teachers:
            section = next(t for t in self.spec.teachers if t.name == name)
            say(f"teacher {name}")
            made = teach(self._context(), self.corpus, section, self.spec)
            self._teachers[name] = made.manifest
        return self._teachers[name]

    def handles(self, arm: Arm) -> list[TeacherHandle]:
        """The arm's teachers, ready to be asked."""
        return [
            teacher_handle(section, [self.teacher(section.name)], self.corpus, self.store)
            for section in self.spec_of(arm).teachers
        ]

    def label(self, arm: Arm) -> list[StageResult]:
        """Soft labels of the arm's teachers."""
        say(f"labels for {arm.name}")
        spec, context = self.spec_of(arm), self._context()
        works = [LabelWork(context, self.corpus, handle, spec) for handle in self.handles(arm)]
        label_together(works)
        return [run_stage(work) for work in works]

    def train(
        self,
        arms: Sequence[Arm],
        seeds: Sequence[int],
        *,
        done: Done | None = None,
        failed: dict[str, str] | None = None,
    ) -> dict[str, list[Manifest]]:
        """Students by arm, a seed each; seed by seed, so that a table that is cut short has whole pairs.

        Args:
            done: told of each as soon as it is there, with the seconds it took; None where it was found.
            failed: gets what an arm that cannot be trained, or diverges, says of it; the others go on. None: none may.
        """
        given = {arm.name: self._given(arm) for arm in arms}
        jobs = [(arm, seed) for seed in seeds for arm in arms]
        found: dict[str, list[Manifest]] = {arm.name: [] for arm in arms}
        pool = ThreadPoolExecutor(self._side_by_side)
        try:
            futures = [pool.submit(self._student, arm, seed, given[arm.name], done) for arm, seed in jobs]
            for (arm, seed), future in zip(jobs, futures, strict=True):
                try:
                    found[arm.name].append(future.result())
                except (UsageError, PermanentError) as error:
                    if failed is None:
                        raise
                    failed[arm.name] = f"seed {seed}: {error}"
        except BaseException:
            # An error, or an interrupt: what runs is asked to stop, what waits does not begin.
            self._asked_to_stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return {name: models for name, models in found.items() if name not in (failed or {})}

    def _given(self, arm: Arm) -> dict[str, Any]:
        """What teaches an arm: stored labels with their weights, or teachers at hand."""
        if not arm.teachers:
            return {"labels": [], "select": None}
        if self.spec_of(arm).student.teacher == "online":
            return {"labels": [], "select": None, "teachers": self.handles(arm)}
        labels = [result.manifest for result in self.label(arm)]
        return {
            "labels": labels,
            "select": select(Context(self.store), self.corpus, labels, self.spec_of(arm).select).manifest,
        }

    def _student(
        self,
        arm: Arm,
        seed: int,
        given: dict[str, Any],
        done: Done | None,
    ) -> Manifest:
        start = time.perf_counter()
        context = replace(self._context(), stop=self._asked_to_stop.is_set)
        name = TAUGHT if arm.teachers else LABELS_ONLY
        count, spec = self._side_by_side, self.spec_of(arm)
        work = StudentTraining(context, self.corpus, spec=spec, arm=name, seed=seed, side_by_side=count, **given)
        result = run_stage(work)
        say(f"{arm.name} seed {seed}: {result.message}")
        if done is not None:
            done(arm, seed, result.manifest, None if result.cached else time.perf_counter() - start)
        return result.manifest

    def test(self, trained: Mapping[str, Sequence[Manifest]], *, baselines: bool = False) -> dict[str, list[Metrics]]:
        """Metrics on the labelled test images of every arm, a seed each, and of majority, thumbnails and borders."""
        spec = Spec.model_validate(merged(self.raw, {"evaluate": {"baselines": baselines}}))
        # An evaluation tells arms apart by what their manifests say, and all of ours say taught.
        titles = {name: digest_of([model.key for model in models]) for name, models in trained.items()}
        renamed = {
            titles[name]: [model.model_copy(update={"facts": {**model.facts, "arm": titles[name]}}) for model in models]
            for name, models in trained.items()
        }
        every = [model for models in renamed.values() for model in models]
        rows = evaluate(self._context(), self.corpus, every, spec).manifest.facts["arms"]
        others = {name: row["per_seed"] for name, row in rows.items() if name not in renamed}
        return {**{name: rows[title]["per_seed"] for name, title in titles.items()}, **others}


def merged(raw: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with the values of `change`, mappings merged key by key."""
    out = dict(raw)
    for name, value in change.items():
        own = out.get(name)
        out[name] = merged(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return out


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)
