"""What is cached already, found by running the stages themselves with nothing to write to and nobody to work.

Each stage looks its manifest up before it does anything. Here it gets a store that refuses to write and a
cluster that refuses to start: a stage that comes back without either is cached, one that asks is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.distill.stage import distill, teach
from tasks.evaluate import stage as evaluation
from tasks.label import label, teacher_handle
from tasks.pipeline.result import StageResult
from tasks.register import stage as registration
from tasks.select import select
from tasks.spec import Spec, TeacherSection
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tasks.teachers.teacher import TeacherHandle

CACHED, PARTLY, TO_DO = "cached", "partly", "to do"


class WouldWorkError(Exception):
    """A stage wanted to write or to compute: it is not cached."""


class ReadOnly:
    """A store that can be read; whatever would change it raises WouldWorkError."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.url = store.url

    def put(self, name: str, data: bytes) -> None:
        raise WouldWorkError(name)

    def put_file(self, name: str, path: Path) -> None:
        raise WouldWorkError(name)

    def put_new(self, name: str, data: bytes) -> bool:
        raise WouldWorkError(name)

    def delete(self, name: str) -> None:
        raise WouldWorkError(name)

    def private(self, name: str) -> None:
        raise WouldWorkError(name)

    def sweep(self, older_than: float) -> int:
        raise WouldWorkError("sweep")

    def get(self, name: str) -> bytes:
        return self._store.get(name)

    def read(self, name: str, offset: int, size: int, *, cached: bool = True) -> bytes:
        return self._store.read(name, offset, size, cached=cached)

    def sizes(self, prefix: str) -> dict[str, int]:
        return self._store.sizes(prefix)

    def ages(self, prefix: str) -> dict[str, float]:
        return self._store.ages(prefix)

    def abandoned(self, older_than: float) -> list[str]:
        return self._store.abandoned(older_than)

    def exists(self, name: str) -> bool:
        return self._store.exists(name)

    def local_path(self, name: str) -> Path:
        return self._store.local_path(name)

    def open(self, name: str, *, cached: bool = True) -> BinaryIO:
        return self._store.open(name, cached=cached)


class Idle(Cluster):
    """A cluster that never starts."""

    @property
    def client(self) -> Any:
        raise WouldWorkError("a worker is wanted")


@dataclass(frozen=True)
class State:
    """How much of a stage is there."""

    state: str  # cached, partly or to do
    done: int = 0  # units, of those that have any
    total: int = 0


def rehearse(spec: Spec, store: Store, ingested: Manifest | None) -> dict[str, State]:
    """State of every stage after ingest, by the titles that a run shows, in the order of the line.

    Args:
        ingested: manifest of the ingest where that is cached; without it everything is still to do.

    Raises:
        UsageError: as the stage would, for instance when weights are not there.
    """
    asked = _Asked(spec, store)
    corpus = Corpus(store, ingested) if ingested is not None else None
    trained = {t.name: asked.teach_all(corpus, t) for t in spec.teachers if t.train is not None}
    labels = [asked.label(corpus, t, trained.get(t.name, [])) for t in spec.teachers]
    known = [m for m in labels if m is not None]
    whole = corpus is not None and len(known) == len(labels)
    chosen = asked.select(corpus if whole else None, known)
    students = [
        asked.distill(corpus, known if whole else None, chosen, arm, seed)
        for arm in ([TAUGHT, LABELS_ONLY] if spec.evaluate.compare else [TAUGHT])
        for seed in spec.student.seeds
    ]
    asked.judge(corpus, [*students, *(whole for whole, *_ in trained.values())])
    return asked.states


class _Asked:
    """Asks one stage after the other and remembers how it stood."""

    def __init__(self, spec: Spec, store: Store) -> None:
        self.spec, self.store = spec, store
        self.cluster = Idle(spec.run.cluster)
        self.states: dict[str, State] = {}
        self.teachers: dict[str, TeacherHandle] = {}

    def _ask(self, title: str, call: Callable[[Callable[[int, int], None]], StageResult] | None) -> Manifest | None:
        units = (0, 0)

        def progress(done: int, total: int) -> None:
            nonlocal units
            units = (done, total)

        self.states[title] = State(TO_DO)
        if call is None:
            return None
        try:
            manifest = call(progress).manifest
        except WouldWorkError:
            self.states[title] = State(PARTLY if units[0] else TO_DO, *units)
            return None
        self.states[title] = State(CACHED)
        return manifest

    def teach_all(self, corpus: Corpus | None, teacher: TeacherSection) -> list[Manifest | None]:
        """The whole teacher, then its folds."""
        count = teacher.folds or 0
        whole = self.teach(corpus, teacher, None)
        return [whole, *(self.teach(corpus, teacher, (fold, count)) for fold in range(count))]

    def teach(self, corpus: Corpus | None, teacher: TeacherSection, fold: tuple[int, int] | None) -> Manifest | None:
        call = None
        if corpus is not None:
            call = lambda _: teach(corpus, teacher, self.spec, self.store, self.cluster, fold=fold)  # noqa: E731
        part = f" without fold {fold[0] + 1} of {fold[1]}" if fold else ""
        return self._ask(f"teach {teacher.name}{part}", call)

    def label(self, corpus: Corpus | None, teacher: TeacherSection, trained: list[Manifest | None]) -> Manifest | None:
        call = None
        known = [manifest for manifest in trained if manifest is not None]
        if corpus is not None and len(known) == len(trained):
            handle = teacher_handle(teacher, known, corpus, self.store)
            self.teachers[teacher.name] = handle
            call = lambda progress: label(  # noqa: E731
                corpus, [handle], self.spec.for_labels, self.store, self.cluster, progress=progress
            )[0]
        return self._ask(f"label {teacher.name}", call)

    def select(self, corpus: Corpus | None, labels: list[Manifest]) -> Manifest | None:
        call = None
        if corpus is not None:
            call = lambda _: select(corpus, labels, self.spec.select, self.store)  # noqa: E731
        return self._ask("select", call)

    def distill(
        self, corpus: Corpus | None, labels: list[Manifest] | None, chosen: Manifest | None, arm: str, seed: int
    ) -> Manifest | None:
        call = None
        ready = labels is not None and chosen is not None
        online = list(self.teachers.values()) if self.spec.student.teacher == "online" else []
        if corpus is not None and (ready or arm == LABELS_ONLY):
            call = lambda _: distill(  # noqa: E731
                corpus, labels or [], chosen, self.spec, self.store, self.cluster, arm=arm, seed=seed, teachers=online
            )
        return self._ask(f"distill {arm} seed {seed}", call)

    def judge(self, corpus: Corpus | None, models: list[Manifest | None]) -> None:
        """Evaluate and register: their keys are enough, and MLflow is not asked."""
        cache = StageCache(self.store)
        self.states["evaluate"] = self.states["register"] = State(TO_DO)
        known = [m for m in models if m is not None]
        if corpus is None or len(known) < len(models):
            return
        report = cache.lookup(evaluation.STAGE, evaluation.stage_key(corpus, known, self.spec))
        if report is None or not report.whole:
            return
        self.states["evaluate"] = State(CACHED)
        best = report.manifest.facts["best"]
        student = next((m for m in known if best is not None and m.key == best["key"]), None)
        if student is not None and cache.lookup(
            registration.STAGE, registration.stage_key(report.manifest, student, self.spec)
        ):
            self.states["register"] = State(CACHED)
