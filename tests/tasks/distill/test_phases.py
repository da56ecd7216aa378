"""Trainings in phases on a tiny corpus: what each is trained on, what it begins with, and what is made again."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load

from flows.line import line
from infra.compute.cluster import Cluster
from infra.errors import CancelledError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, Shard
from tasks.data.hidden_labels import WithoutLabels
from tasks.distill.checkpoints import Checkpoints
from tasks.distill.stage import StudentTraining, distill, student_request, student_steps
from tasks.distill.training_job import build_job
from tasks.distill.training_run import TrainingCallbacks, run_training
from tasks.pipeline.context import Context
from tasks.spec import Spec, parse_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tests.tiny import tiny_corpus, tiny_labels

TRANSFER = "{name: transfer, labels: false, loss: [{loss: kl}], train: {steps: 6}}"
TUNE = "{name: fine-tune, pool: labelled, loss: [{loss: cross_entropy}], train: {epochs: 1}}"


def spec_of(store: LocalStore, tune: str = TUNE, more: str = "") -> Spec:
    return parse_spec(
        f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: 32, count: 2}}
teachers: [{{name: t, model: micro_xs, train: {{steps: 12, batch: 8, lr: 0.01}}}}]
student:
  model: micro_xs
  train: {{steps: 12, batch: 8, lr: 0.01, checkpoint_every: 5}}
  phases: [{TRANSFER}, {tune}]
  {more}
run: {{device: cpu, train: {{threads: 1}}}}
"""
    )


def opinions(shard: Shard, view: int) -> np.ndarray:
    rows = np.arange(len(shard))[:, None] + view
    return np.sin(rows * np.array([1.0, 2.0, 3.0])).astype(np.float32) * 3


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    return tiny_corpus(store)


@pytest.fixture
def labels(corpus: Corpus) -> Manifest:
    return tiny_labels(corpus, "t", opinions, views=2)


def trained(spec: Spec, corpus: Corpus, labels: Manifest, cluster: Cluster) -> tuple[Manifest, Manifest]:
    """Both phases of the taught student."""
    context = Context(corpus.store, cluster, spec.run)
    first = distill(context, corpus, [labels], None, spec, phase="transfer").manifest
    return first, distill(context, corpus, [labels], None, spec, phase="fine-tune", start=first).manifest


def weights(store: LocalStore, manifest: Manifest) -> dict[str, np.ndarray]:
    return dict(load(store.get(manifest.output(kind="model").name)))


def test_each_phase_goes_by_its_own_losses(
    store: LocalStore, corpus: Corpus, labels: Manifest, cluster: Cluster
) -> None:
    first, last = trained(spec_of(store), corpus, labels, cluster)
    assert (first.facts["arm"], last.facts["arm"]) == ("phase:transfer", TAUGHT)
    assert (first.facts["steps"], last.facts["steps"]) == (6, 3)
    assert "kl" in first.facts["best"]
    assert "cross_entropy" not in first.facts["best"]
    assert "cross_entropy" in last.facts["best"]
    assert "kl" not in last.facts["best"]
    assert first.key in last.inputs


def test_a_phase_begins_with_the_model_of_the_one_before(
    store: LocalStore, corpus: Corpus, labels: Manifest, cluster: Cluster
) -> None:
    still = "{name: fine-tune, loss: [{loss: cross_entropy}], train: {steps: 2, lr: 1.0e-20, weight_decay: 0}}"
    first, last = trained(spec_of(store, still), corpus, labels, cluster)
    before, after = weights(store, first), weights(store, last)
    learnt = [name for name in before if name.endswith("weight")]
    assert learnt
    for name in learnt:
        np.testing.assert_array_equal(before[name], after[name])


def test_a_phase_that_was_stopped_goes_on_from_its_checkpoint(
    store: LocalStore, corpus: Corpus, labels: Manifest, cluster: Cluster
) -> None:
    spec = spec_of(store, TUNE.replace("epochs: 1", "steps: 9, checkpoint_every: 2"))
    context = Context(store, cluster, spec.run)
    first, calm = trained(spec, corpus, labels, cluster)
    work = StudentTraining(context, corpus, [labels], None, spec, phase="fine-tune", start=first)
    assert work.key == calm.key
    job = build_job(work.request, "again", work.weights, corpus, spec, context, device="cpu", side_by_side=1)
    steps = iter(range(5))

    def stop() -> None:
        if next(steps, None) is None:
            raise CancelledError("asked to stop")

    with pytest.raises(CancelledError):
        run_training(job, TrainingCallbacks(stop=stop))
    assert Checkpoints(store, "again").newest() == 4
    record = run_training(job, TrainingCallbacks())
    assert record is not None
    assert [output.sha256 for output in record.outputs] == [output.sha256 for output in calm.outputs]


def test_another_last_phase_finds_the_first(store: LocalStore, corpus: Corpus, labels: Manifest) -> None:
    longer = spec_of(store, TUNE.replace("epochs: 1", "epochs: 2"))
    keys = [
        StudentTraining(Context(store), corpus, [labels], None, spec, phase="transfer").key
        for spec in (spec_of(store), longer)
    ]
    assert keys[0] == keys[1]


def test_a_phase_depends_on_the_one_before(
    store: LocalStore, corpus: Corpus, labels: Manifest, cluster: Cluster
) -> None:
    spec, context = spec_of(store), Context(store, cluster)
    starts = [distill(context, corpus, [labels], None, spec, phase="transfer", seed=seed).manifest for seed in (0, 1)]
    keys = {
        StudentTraining(context, corpus, [labels], None, spec, phase="fine-tune", start=start).key for start in starts
    }
    assert len(keys) == 2


def test_no_label_enters_a_phase_that_hides_them(store: LocalStore, corpus: Corpus, labels: Manifest) -> None:
    spec, context = spec_of(store), Context(store)
    hidden = WithoutLabels(corpus)
    assert not any(shard.labelled.any() for shard in hidden.of_split("train"))
    assert all(shard.labelled.all() for shard in hidden.of_split("val"))

    def key() -> str:
        return StudentTraining(context, corpus, [labels], None, spec, phase="transfer").key

    before = key()
    shard = corpus.of_split("train")[0]
    shard.label[0] = (shard.label[0] + 1) % 3
    assert key() == before


def test_a_phase_on_labels_alone_takes_images_as_the_arm_on_labels_alone_does(
    store: LocalStore, corpus: Corpus, labels: Manifest
) -> None:
    spec, context = spec_of(store), Context(store)
    request = student_request(corpus, [labels], None, spec, store, arm=TAUGHT, seed=0, phase="fine-tune")
    assert (request.labels, request.select, request.online) == ([], None, ())
    with_teacher = spec_of(store, TUNE.replace("{loss: cross_entropy}", "{loss: cross_entropy}, {loss: kl}"))
    both = student_request(corpus, [labels], None, with_teacher, store, arm=TAUGHT, seed=0, phase="fine-tune")
    work = StudentTraining(context, corpus, [labels], None, with_teacher, phase="fine-tune")
    job = build_job(both, work.key, work.weights, corpus, with_teacher, context, device="cpu", side_by_side=1)
    assert (len(both.labels), job.sampling.pool) == (1, "labelled")


def test_labels_alone_take_the_steps_of_all_phases(store: LocalStore, corpus: Corpus) -> None:
    spec = spec_of(store)
    steps = {
        (arm, phase): student_steps(corpus, spec, arm, phase)
        for arm, phase in ((TAUGHT, "transfer"), (TAUGHT, "fine-tune"), (LABELS_ONLY, ""))
    }
    assert steps == {(TAUGHT, "transfer"): 6, (TAUGHT, "fine-tune"): 3, (LABELS_ONLY, ""): 9}


def test_arms_share_the_phases_that_are_alike(store: LocalStore) -> None:
    again = "{name: fine-tune, loss: [{loss: cross_entropy}, {loss: kl}], train: {steps: 3}}"
    more = f"arms: {{guided: {{phases: [{TRANSFER}, {again}]}}, joint: {{phases: null}}}}"
    graph = line(spec_of(store, more=more))
    steps = {step.title: step for step in graph.steps if step.stage.name == "distill"}
    assert list(steps) == [
        "distill labels_only seed 0",
        "distill taught transfer seed 0",
        "distill taught fine-tune seed 0",
        "distill guided fine-tune seed 0",
        "distill joint seed 0",
    ]
    transfer = steps["distill taught transfer seed 0"]
    assert steps["distill taught fine-tune seed 0"].inputs["start"] is transfer
    assert steps["distill guided fine-tune seed 0"].inputs["start"] is transfer
    (evaluation,) = (step for step in graph.steps if step.stage.name == "evaluate")
    models = evaluation.inputs["models"]
    assert isinstance(models, list)
    assert transfer not in models
    assert {step.parameters.get("arm") for step in models} == {TAUGHT, LABELS_ONLY, "guided", "joint", None}


def test_further_arms_move_no_key(store: LocalStore, corpus: Corpus, labels: Manifest) -> None:
    def keys(student: str) -> list[str]:
        plain = parse_spec(
            f"{{name: tiny, store: {store.url}, corpus: {{adapter: eyepacs, root: .}}, views: {{size: 32, count: 2}}, "
            f"teachers: [{{name: t, model: micro_xs}}], student: {{model: micro_xs, train: {{steps: 12}}{student}}}}}"
        )
        return [
            StudentTraining(Context(store), corpus, [labels], None, plain, arm=arm).key for arm in (TAUGHT, LABELS_ONLY)
        ]

    assert keys("") == keys(f", arms: {{two_phase: {{phases: [{TRANSFER}, {TUNE}]}}}}")
