"""The engine of a teacher: begun with float32, settled while labelling goes on, remembered on the machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.digest import sha256_file
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from models.engines.trial_rule import EngineFigures
from tasks.data.soft_labels import read_soft_labels
from tasks.data.weights import WeightsRef
from tasks.label.engine_choices import ENGINES, architecture
from tasks.label.engine_memory import remember_engines, remembered_engines
from tasks.label.job import InferenceSettings, LabelJob, TeacherRequest
from tasks.label.label_fan_out import LabelFanOut
from tasks.label.label_shard import label_or_settle, label_shard, load_teachers
from tasks.label.stage import LabelWork
from tasks.pipeline.context import Context
from tasks.teachers.teacher import TeacherModel
from tests.tasks.label.teachers import handle_of, save_weights, spec_of
from tests.tiny import tiny_corpus

MANY = 10**7
HOW = InferenceSettings("cpu", 1, cores=1, precision="float32", passes=MANY, workers=2)

# What makes one engine worth its set-up, and no other.
FIGURES = {
    "eager-float32": EngineFigures(100.0, 8, 0.1),
    "openvino-float32": EngineFigures(10_000.0, 8, 1.0),
    "onnxruntime-float32": EngineFigures(50.0, 8, 10.0),
    "compile-float32": EngineFigures(50.0, 8, 60.0),
}


def _job(store: LocalStore, folder: Path, how: InferenceSettings = HOW) -> LabelJob:
    path = save_weights(folder)
    sha = sha256_file(path)
    teacher = TeacherModel("small", "network", "micro_xs", {}, 32, 3, WeightsRef(str(path), sha, sha))
    remember_engines(architecture(teacher), FIGURES, device="cpu", threads=1)
    request = TeacherRequest(teacher, ((0, "0" * 64),))
    return LabelJob(store.url, "tiny", tiny_corpus(store).shards[0], ViewRecipe(32), (request,), how)


def _engine(job: LabelJob) -> str:
    (record,) = label_shard(job)
    return str(record.facts["engine"]["engine"])


def test_labelling_begins_with_float32_and_goes_over_once_engines_are_measured(
    home: Path, store: LocalStore, tmp_path: Path
) -> None:
    job = _job(store, tmp_path)
    (begun,) = load_teachers(job)
    assert not begun.settled
    assert _engine(job) == "eager-float32"
    (found,) = label_or_settle(replace(job, settle=True))
    assert found.settled  # type: ignore[union-attr]
    assert _engine(job) == "openvino-float32"


def test_both_engines_give_the_same_labels(home: Path, store: LocalStore, tmp_path: Path) -> None:
    job = _job(store, tmp_path)
    load_teachers(job)

    def logits() -> np.ndarray:
        (record,) = label_shard(job)
        return read_soft_labels(store.get(record.outputs[0].name)).logits.astype(np.float32)

    before = logits()
    label_or_settle(replace(job, settle=True))
    np.testing.assert_allclose(logits(), before, atol=5e-3)


def test_a_worker_alone_measures_before_it_labels(home: Path, store: LocalStore, tmp_path: Path) -> None:
    (begun,) = load_teachers(_job(store, tmp_path, replace(HOW, workers=1)))
    assert begun.settled
    assert begun.engine.startswith("openvino-float32")


def test_little_work_is_settled_at_once(home: Path, store: LocalStore, tmp_path: Path) -> None:
    (begun,) = load_teachers(_job(store, tmp_path, replace(HOW, passes=10)))
    assert begun.settled
    assert begun.engine.startswith("eager-float32")


def test_what_was_measured_is_remembered_on_the_machine(home: Path, store: LocalStore, tmp_path: Path) -> None:
    job = _job(store, tmp_path, replace(HOW, workers=1))
    load_teachers(job)
    known = remembered_engines(device="cpu", threads=1)[architecture(job.requests[0].teacher)]
    assert known["openvino-float32"] != FIGURES["openvino-float32"]
    assert known["compile-float32"] == FIGURES["compile-float32"]


def test_a_worker_that_finds_no_choice_measures_by_itself(home: Path, store: LocalStore, tmp_path: Path) -> None:
    """As one on another kind of machine than the worker that began."""
    assert _engine(_job(store, tmp_path)) == "openvino-float32"


def test_a_damaged_choice_is_made_again(home: Path, store: LocalStore, tmp_path: Path) -> None:
    job = _job(store, tmp_path, replace(HOW, passes=10))
    load_teachers(job)
    (name,) = store.sizes(ENGINES)
    store.put(name, b"{")
    load_teachers(replace(job, inference=replace(job.inference, passes=11)))
    assert json.loads(store.get(name))["choice"]["engine"] == "eager-float32"


def test_weights_and_classes_do_not_make_another_architecture(home: Path, store: LocalStore, tmp_path: Path) -> None:
    teacher = _job(store, tmp_path).requests[0].teacher
    other = replace(teacher, num_classes=9, weights=WeightsRef("elsewhere", "1" * 64, "1" * 64))
    assert architecture(other) == architecture(teacher)
    assert architecture(replace(teacher, size=64)) != architecture(teacher)
    file = replace(teacher, kind="onnx", model="")
    assert architecture(file) != architecture(replace(file, weights=other.weights))


def test_a_labelling_measures_beside_its_work_and_says_what_it_took(
    home: Path, store: LocalStore, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, train=64)
    spec = spec_of(store, save_weights(tmp_path), run={"device": "cpu", "label": {"precision": "float32"}})
    messages: list[str] = []
    # Workers of its own, which remember below this test's home.
    with Cluster(ClusterSection(workers=2)) as cluster:
        context = Context(store, cluster, spec.run, message=messages.append)
        work = LabelWork(context, corpus, handle_of(spec, corpus), spec)
        fan_out = LabelFanOut(context, corpus, [(work.units, work.pending())])
        fan_out.inference = replace(fan_out.inference, passes=MANY)
        name = architecture(work.units.teacher)
        remember_engines(name, FIGURES, device="cpu", threads=fan_out.inference.threads)
        fan_out.run(lambda: None)
    assert not work.units.pending
    assert "until faster engines are measured" in messages[0]
    assert messages[1].startswith("teacher small goes on with openvino-float32")
    (choice,) = store.sizes(ENGINES)
    assert json.loads(store.get(choice))["settled"]
    assert {fact["engine"]["engine"] for fact in work.units.facts.values()} <= {"eager-float32", "openvino-float32"}
