"""A student that begins with the first layers of a teacher of its spec."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load

from flows.line import line
from infra.compute.cluster import Cluster
from infra.errors import SpecError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.distill.stage import distill, teach
from tasks.pipeline.context import Context
from tasks.spec import Spec, parse_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tests.tiny import tiny_corpus

CUT = "model: micro_xs, weights: teacher:t, cut: blocks.1, head: 8"


def spec_of(store: LocalStore, student: str = CUT, teacher: str = "train: {steps: 4, batch: 8, lr: 0.01}") -> Spec:
    return parse_spec(
        f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: 32, count: 2}}
teachers: [{{name: t, model: micro_xs, {teacher}}}]
student: {{{student}, train: {{steps: 1, batch: 8, lr: 1.0e-9}}}}
run: {{device: cpu}}
"""
    )


def first_layer(store: LocalStore, manifest: Manifest) -> np.ndarray:
    return load(store.get(manifest.output(kind="model").name))["stem.0.0.weight"]


def test_student_begins_with_the_layers_of_its_teacher(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store)
    context = Context(store, cluster, spec.run)
    teacher = teach(context, corpus, spec.teachers[0], spec).manifest
    student = distill(context, corpus, [], None, spec, arm=LABELS_ONLY, start=teacher).manifest
    np.testing.assert_allclose(first_layer(store, student), first_layer(store, teacher), atol=1e-6)
    assert teacher.key in student.inputs


@pytest.mark.parametrize("arm", [TAUGHT, LABELS_ONLY])
def test_both_arms_wait_for_the_teacher_that_they_start_from(store: LocalStore, arm: str) -> None:
    graph = line(spec_of(store))
    step = next(step for step in graph.steps if step.title == f"distill {arm} seed 0")
    assert step.inputs["start"] is next(other for other in graph.steps if other.title == "teach t")


def test_student_of_another_model_cannot_start_from_the_teacher(store: LocalStore) -> None:
    with pytest.raises(SpecError, match="teacher t is a micro_xs, and the student a micro"):
        spec_of(store, "model: micro, weights: teacher:t")


@pytest.mark.parametrize(("student", "teacher"), [(CUT.replace(":t,", ":u,"), "train: {steps: 1}"), (CUT, "seed: 0")])
def test_teacher_that_is_not_trained_is_no_start(store: LocalStore, student: str, teacher: str) -> None:
    with pytest.raises(SpecError, match="is trained here"):
        spec_of(store, student, teacher)


def test_teacher_cannot_start_from_a_teacher(store: LocalStore) -> None:
    with pytest.raises(SpecError, match="only a student starts from a teacher"):
        spec_of(store, teacher="weights: teacher:u, train: {steps: 1}")
