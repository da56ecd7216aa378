"""Teaching and distilling on a tiny corpus, on a real Dask cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from safetensors.torch import load

from infra.compute.cluster import Cluster
from infra.compute.fan_out import Job, Outcome
from infra.errors import PermanentError, PoisonError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.distill.checkpoints import Checkpoints
from tasks.distill.stage import distill, teach
from tasks.distill.training_work import retry_while_advancing
from tasks.label.stage import label, teacher_handle
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult
from tasks.spec import Spec, parse_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tests.tiny import tiny_corpus


def spec_of(store: LocalStore, **student: Any) -> Spec:
    return parse_spec(
        f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: 32, count: 2}}
teachers: [{{name: t, model: micro_xs, train: {{steps: 12, batch: 8, lr: 0.01}}}}]
student: {{model: micro_xs, train: {{steps: 12, batch: 8, lr: 0.01, checkpoint_every: 5}}, seeds: [0]}}
run: {{device: cpu, train: {{threads: 1}}}}
""",
        overrides=[f"student.{k}={v}" for k, v in student.items()],
    )


def teacher(corpus: Corpus, spec: Spec, cluster: Cluster) -> StageResult:
    return teach(Context(corpus.store, cluster, spec.run), corpus, spec.teachers[0], spec)


def student(
    corpus: Corpus, labels: list[Manifest], spec: Spec, cluster: Cluster, *, arm: str, seed: int = 0
) -> StageResult:
    return distill(Context(corpus.store, cluster, spec.run), corpus, labels, None, spec, arm=arm, seed=seed)


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    return tiny_corpus(store)


def test_a_teacher_is_trained_once(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store)
    first = teacher(corpus, spec, cluster)
    again = teacher(corpus, spec, cluster)
    assert (first.cached, again.cached) == (False, True)
    assert first.manifest.digest == again.manifest.digest


def test_a_model_says_what_it_is(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store)
    manifest = teacher(corpus, spec, cluster).manifest
    state = load(store.get(manifest.output(kind="model").name))
    assert manifest.facts["arm"] == "teacher:t"
    assert manifest.facts["parameters"] <= sum(v.numel() for v in state.values())
    assert manifest.facts["best"]["step"] == 12
    assert "val_macro_f1" in manifest.facts["best"]


def test_a_student_learns_from_stored_labels(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store)
    taught = teacher(corpus, spec, cluster).manifest
    handle = teacher_handle(spec.teachers[0], [taught], corpus, store)
    labels = label(Context(store, cluster, spec.run), corpus, handle, spec).manifest
    found = student(corpus, [labels], spec, cluster, arm=TAUGHT, seed=0).manifest
    alone = student(corpus, [labels], spec, cluster, arm=LABELS_ONLY, seed=0).manifest
    assert "kl" in found.facts["best"]
    assert "kl" not in alone.facts["best"]
    assert found.facts["steps"] == alone.facts["steps"]


def test_checkpoints_are_gone_when_a_training_is_done(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY)
    assert store.sizes("checkpoints/") == {}


def test_seeds_and_steps_make_other_students(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    keys = {
        student(corpus, [], spec_of(store, **change), cluster, arm=LABELS_ONLY, seed=seed).manifest.key
        for seed, change in ((0, {}), (1, {}), (0, {"train.steps": 13}))
    }
    assert len(keys) == 3


def test_how_often_checkpoints_are_written_changes_no_key(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    one = student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY)
    two = student(corpus, [], spec_of(store, **{"train.checkpoint_every": 3}), cluster, arm=LABELS_ONLY)
    assert two.cached
    assert one.manifest.key == two.manifest.key


def test_a_lost_model_is_trained_again_under_the_same_key(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    first = student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY).manifest
    store.delete(first.output(kind="model").name)
    second = student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY)
    assert not second.cached
    assert second.manifest.output(kind="model").sha256 == first.output(kind="model").sha256


def test_an_unknown_model_name_names_its_neighbours(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="did you mean resnet18"):
        student(corpus, [], spec_of(store, model="resnet_18"), cluster, arm=LABELS_ONLY)


def test_a_loss_of_another_task_is_refused(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="for multilabel"):
        student(corpus, [], spec_of(store, loss="[{loss: binary}]"), cluster, arm=LABELS_ONLY)


def test_a_multilabel_student_has_a_binary_loss(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, task="multilabel", title="many")
    manifest = student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY).manifest
    assert "binary" in manifest.facts["best"]
    assert "val_auc" in manifest.facts["best"]


def test_a_training_that_diverges_names_the_images_of_the_batch(
    corpus: Corpus, store: LocalStore, cluster: Cluster
) -> None:
    wild = spec_of(store, **{"train.lr": "1e6", "train.steps": 60, "train.clip": "null", "train.optimizer": "sgd"})
    with pytest.raises(PermanentError, match=r"labels_only seed 0: .* the batch holds .*train-00"):
        student(corpus, [], wild, cluster, arm=LABELS_ONLY)


def test_early_stop_ends_a_training_and_says_so(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    still = {"train.lr": "1e-12", "train.steps": 40, "train.validations": 8, "train.early_stop": 2}
    spec = spec_of(store, **still, **{"train.ema_share": "null", "train.metric": "macro_f1"})
    manifest = student(corpus, [], spec, cluster, arm=LABELS_ONLY).manifest
    facts = manifest.facts
    history = json.loads(store.get(manifest.output(kind="history").name))
    judged = [row for row in history if "val_macro_f1" in row]
    assert facts["stopped"] == facts["steps"] == judged[-1]["step"] < 40
    assert facts["best"] == max(judged, key=lambda row: row["val_macro_f1"])


def test_a_whole_training_was_not_stopped(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    facts = student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY).manifest.facts
    assert (facts["steps"], facts["stopped"]) == (12, None)


def test_early_stop_without_labels_to_go_by_is_refused(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, val=0)
    with pytest.raises(UsageError, match="no image of split val"):
        student(corpus, [], spec_of(store, **{"train.early_stop": 2}), cluster, arm=LABELS_ONLY)


def test_early_stop_on_a_metric_without_a_value_is_refused(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, val=1)
    with pytest.raises(UsageError, match=r"auc is undefined on .* tiny, no class has both .*macro_f1.* defined"):
        student(corpus, [], spec_of(store, **{"train.early_stop": 2, "train.metric": "auc"}), cluster, arm=LABELS_ONLY)


def test_an_unknown_metric_names_those_of_the_task(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(UsageError, match=r"qwk is not measured on single corpora; accuracy, .*macro_f1"):
        student(corpus, [], spec_of(store, **{"train.metric": "qwk"}), cluster, arm=LABELS_ONLY)


def test_a_history_repeats(corpus: Corpus, store: LocalStore, cluster: Cluster) -> None:
    first = student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY).manifest
    store.delete(first.output(kind="history").name)
    assert student(corpus, [], spec_of(store), cluster, arm=LABELS_ONLY).manifest == first


def test_a_training_goes_on_as_long_as_its_checkpoint_does(store: LocalStore) -> None:
    checkpoints = Checkpoints(store, "key")
    tries: list[int] = []

    def dies() -> Outcome:
        tries.append(len(tries))
        checkpoints.save(min(len(tries), 7), b"", [])
        return Outcome(Job("key", ()), error=PoisonError("workers died of it"))

    outcome = retry_while_advancing(dies, checkpoints)
    assert isinstance(outcome.error, PoisonError)
    assert len(tries) == 8


def test_an_error_that_is_no_death_is_not_tried_again(store: LocalStore) -> None:
    checkpoints = Checkpoints(store, "key")
    tries: list[int] = []

    def fails() -> Outcome:
        tries.append(len(tries))
        checkpoints.save(len(tries), b"", [])
        return Outcome(Job("key", ()), error=PermanentError("diverged"))

    retry_while_advancing(fails, checkpoints)
    assert len(tries) == 1
