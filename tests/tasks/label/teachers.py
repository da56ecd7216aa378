"""Teachers and a spec small enough for tests, and the label stage run on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from models.networks.build import build
from tasks.data.corpus import Corpus
from tasks.label.stage import LabelWork, TeacherHandle, label, label_together, teacher_handle
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult, run_stage
from tasks.spec import Spec


def spec_of(store: Store, weights: Path, **changes: Any) -> Spec:
    """Views of 32 px, two random ones; `changes` replace whole sections."""
    return Spec.model_validate(
        {
            "name": "tiny",
            "store": store.url,
            "corpus": {"adapter": "eyepacs", "root": "."},
            "views": {"size": 32, "count": 2},
            "teachers": [{"name": "small", "model": "micro_xs", "weights": str(weights)}],
            "student": {"model": "micro_xs"},
            "run": {"device": "cpu", "label": {"engine": "eager", "precision": "float32", "batch": 5}},
            **changes,
        }
    )


def save_weights(folder: Path, *, classes: int = 3, seed: int = 0) -> Path:
    """Random weights of micro_xs as a file."""
    path = folder / f"teacher-{classes}-{seed}.safetensors"
    module = build("micro_xs", num_classes=classes, seed=seed).module
    save_file(module.state_dict(), path)
    return path


def handle_of(spec: Spec, corpus: Corpus) -> TeacherHandle:
    """Handle of the first teacher of the spec."""
    return teacher_handle(spec.teachers[0], [], corpus, corpus.store)


def label_one(
    corpus: Corpus, spec: Spec, cluster: Cluster, trained: Sequence[Manifest] = (), **rest: Any
) -> StageResult:
    """Label with the first teacher of the spec; `rest` are fields of the context."""
    handle = teacher_handle(spec.teachers[0], trained, corpus, corpus.store)
    return label(Context(corpus.store, cluster, spec.run, **rest), corpus, handle, spec)


def works_of(corpus: Corpus, spec: Spec, cluster: Cluster, **rest: Any) -> list[LabelWork]:
    """A work for every teacher of the spec."""
    context = Context(corpus.store, cluster, spec.run, **rest)
    return [
        LabelWork(context, corpus, teacher_handle(section, [], corpus, corpus.store), spec) for section in spec.teachers
    ]


def label_all(corpus: Corpus, spec: Spec, cluster: Cluster, **rest: Any) -> list[StageResult]:
    """Label with all teachers of the spec, their missing units in one pass."""
    works = works_of(corpus, spec, cluster, **rest)
    label_together(works)
    return [run_stage(work) for work in works]


def channel_means(factor: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """An entry point: the means of red, green and blue, times `factor`, as the logits of three classes."""
    return lambda images: images.mean(axis=(1, 2)) * factor
