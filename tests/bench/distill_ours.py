"""The real trainer on real shards and soft labels, as three contenders: stored labels, teacher online, no teacher."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infra.compute.cluster import Cluster, cores
from infra.compute.cluster_spec import ClusterSection
from infra.storage.store import LocalStore
from models.losses.terms import Term
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective, Setting
from models.training.online_teachers import OnlineTeacher, OnlineTeachers
from models.training.trainer import Trainer
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabelReader
from tasks.distill import kept_images
from tasks.distill.batches import Input, TrainData
from tasks.ingest.stage import ingest
from tasks.label import label, teacher_handle
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.bench import table_corpus
from tests.bench.distill_task import BATCH, CLASSES, RATE, RECIPE, SIDE, STUDENT, Pace, Stretch, Task, class_of

VIEWS = 2  # stored
LOADERS = 2  # threads, as `run.train.loaders` has it
KINDS = ("stored", "online", "no_teacher")


@dataclass(frozen=True)
class Went:
    """What a stretch of training showed: its pace, the loss at its end, the share of time spent waiting."""

    pace: Pace
    loss: float
    waiting: float


@dataclass(frozen=True)
class Mode:
    """How the step runs."""

    precision: str = "float32"
    compile: bool = False


def _spec(root: Path, store: Path, task: Task) -> Spec:
    return table_corpus.spec_of(
        root,
        store,
        task="single",
        classes=CLASSES,
        per_shard=64,
        views={"size": SIDE, "count": VIEWS},
        teachers=[{"name": "t", "model": task.teacher, "weights": str(task.weights), "size": SIDE}],
        student={"model": STUDENT},
        run={"device": task.device},
    )


class Stillroom:
    """Trains on one corpus again and again. Nothing is kept: every epoch decodes and renders.

    Args:
        place: an empty folder; the corpus is laid out, ingested and labelled there, which `labelling` times.
    """

    def __init__(self, task: Task, place: Path) -> None:
        self.task = task
        table_corpus.lay_out(place / "corpus", task.paths, [str(class_of(n)) for n in range(len(task.paths))])
        spec = _spec(place / "corpus", place / "store", task)
        store = LocalStore(place / "store")
        with Cluster(ClusterSection(workers=None if task.device == "cuda" else cores())) as cluster:
            self.corpus = Corpus(store, ingest(Context(store, cluster, spec.run), spec).manifest)
            handle = teacher_handle(spec.teachers[0], [], self.corpus, store)
            start = time.perf_counter()
            labelled = label(Context(store, cluster, spec.run), self.corpus, handle, spec)
        self.labelling = time.perf_counter() - start
        self.teaching = SoftLabelReader(self.corpus, [labelled.manifest])
        self.teacher = task.teacher_built()
        task.settle()
        kept_images.IMAGES.limit = kept_images.VIEWS.limit = 0
        self._data: dict[str, TrainData] = {}

    def labelled(self) -> float:
        """Seconds that labelling all stored views took, its workers' start and choice of an engine included."""
        return self.labelling

    def train(self, kind: str, epoch: int, mode: Mode) -> Went:
        """Train for an epoch."""
        stretch = Stretch(self.task.steps, self.task.device)
        first = epoch * stretch.steps
        data = self._data_of(kind)
        batches = data.batches(first, first + stretch.total, threads=LOADERS)
        losses, waiting = [], []

        def on_log(step: int, means: dict[str, float], pace: dict[str, float]) -> None:
            losses.append(means["loss"])
            waiting.append(pace["waiting"])

        self._trainer(kind, stretch.total, mode).fit(stretch.of(batches), on_log=on_log)
        return Went(stretch.pace(), losses[-1], waiting[-1])

    def alone(self, kind: str, steps: int) -> dict[str, float]:
        """Seconds a batch: `load` by one thread with nothing beside it, `step` of the trainer on ready batches."""
        data = self._data_of(kind)
        start = time.perf_counter()
        ready: list[Batch] = [data.load(step) for step in range(steps)]
        loading = (time.perf_counter() - start) / steps
        trainer = self._trainer(kind, 2 * steps, Mode())
        moments: list[float] = []

        def watched() -> Any:
            for batch in (*ready, *ready):
                moments.append(time.perf_counter())
                yield batch

        trainer.fit(watched())
        stepping = (time.perf_counter() - moments[steps]) / steps
        return {"load": loading, "step": stepping}

    def _trainer(self, kind: str, steps: int, mode: Mode) -> Trainer:
        torch.manual_seed(0)
        terms = [Term("cross_entropy", where="labelled")]
        if kind != "no_teacher":
            terms.append(Term("kl"))
        return Trainer(
            self.task.student_built().module,
            Objective(terms, Setting(classes=CLASSES)),
            TrainConfig(steps=steps, lr=RATE, precision=mode.precision, log_every=max(1, steps // 2)),
            self.task.device,
            teachers=OnlineTeachers([OnlineTeacher(self.teacher.module)]) if kind == "online" else None,
            compile=mode.compile,
        )

    def _data_of(self, kind: str) -> TrainData:
        if kind not in self._data:
            built = self.task.student_built()
            self._data[kind] = TrainData(
                self.corpus,
                RECIPE,
                VIEWS,
                self.teaching if kind == "stored" else None,
                {},
                seed=0,
                batch=BATCH,
                size=SIDE,
                mean=built.mean,
                std=built.std,
                online=[Input(SIDE, self.teacher.mean, self.teacher.std)] if kind == "online" else [],
            )
        return self._data[kind]
