"""Judged students of every task, from untrained networks on tiny corpora."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.gate.stage import judge
from tasks.pipeline.context import Context
from tasks.report.content import Content
from tasks.report.stage import write_report
from tasks.spec import Spec
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


@dataclass(frozen=True)
class JudgedLine:
    """What the stage report is given."""

    corpus: Corpus
    models: list[Manifest]
    report: Manifest
    gate: Manifest
    spec: Spec

    def content(self, **changes: Any) -> Content:
        """What the page is drawn from; `changes` are manifests in place of these."""
        given = {"report": self.report, "gate": self.gate, "student": self.models[0], **changes}
        return Content(
            self.corpus, given["report"], given["gate"], self.spec, student=given["student"], export=given.get("export")
        )

    def page(self) -> Manifest:
        """The stage's manifest."""
        context = Context(self.corpus.store)
        return write_report(context, self.corpus, self.report, self.gate, self.models, self.spec).manifest


def export_of(line: JudgedLine) -> Manifest:
    """The manifest of an export, with formats and speeds that nobody measured."""
    parity = {"images": 256, "largest": 2e-6, "agreement": 1.0, "metric_difference": -0.002, "interval": [-0.01, 0.004]}
    measured = [
        {"batch": 1, "threads": 1, "runtime": "onnxruntime", "median_ms": 1.234, "p95_ms": 1.5},
        {"batch": 32, "threads": 2, "runtime": "onnxruntime", "median_ms": 30.1, "p95_ms": 33.0},
    ]
    formats = [
        {"format": "onnx", "opset": 18, "ir": 10, "bytes": 212_345, "sha256": "a" * 64, "parity": parity,
         "latency": measured, "offered": True, "why": ""},
        {"format": "onnx_int8", "opset": 18, "ir": 10, "bytes": 80_000, "sha256": "b" * 64, "parity": parity,
         "latency": [], "offered": False, "why": "slower than float32"},
    ]  # fmt: skip
    facts = {"model": "micro_xs", "formats": formats, "multiply_adds": 32_300_000, "machine": "a CPU of two cores"}
    return Manifest(stage="export", version=1, key="e" * 64, inputs=[], section={}, outputs=[], facts=facts)


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Callable[[str], JudgedLine]:
    """By task: a student in two seeds, labels alone and a teacher on 40 test images, judged; made once each."""
    made: dict[str, JudgedLine] = {}

    def of(task: str) -> JudgedLine:
        if task not in made:
            made[task] = _line(tmp_path_factory.mktemp(task), task, cluster)
        return made[task]

    return of


def _line(folder: Path, task: str, cluster: Cluster) -> JudgedLine:
    store = LocalStore(folder / "store")
    classes = 3 if task == "single" else 4
    corpus = tiny_corpus(store, val=16, test=40, size=70, task=task, classes=classes)
    models = [trained(corpus, arm, seed) for arm, seed in (("taught", 0), ("taught", 1), ("labels_only", 0))]
    models.append(trained(corpus, "teacher:big"))
    spec = tiny_spec(store, *(["evaluate.referable=2"] if task == "ordinal" else []))
    context = Context(store, cluster, spec.run)
    report = evaluate(context, corpus, models, spec).manifest
    best = next(model for model in models if model.key == report.facts["best"]["key"])
    return JudgedLine(corpus, [best], report, judge(context, corpus, report, spec).manifest, spec)
