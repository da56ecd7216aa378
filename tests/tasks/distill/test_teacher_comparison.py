"""A student beside its teachers while it trains: columns of the history, and lines for people."""

from __future__ import annotations

import json

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Shard
from tasks.data.soft_labels import SoftLabelReader
from tasks.distill.stage import distill
from tasks.distill.teacher_comparison import TeacherComparison, comparison_text, underfits
from tasks.pipeline.context import Context
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tests.tasks.distill.test_stage import spec_of
from tests.tiny import tiny_corpus, tiny_labels

COLUMNS = {f"{split}_{name}" for split in ("train", "val") for name in ("teacher_kl", "teacher_r2", "constant_kl")}


def opinions(shard: Shard, view: int) -> np.ndarray:
    rows = np.arange(len(shard))[:, None] + view
    return np.sin(rows * np.array([1.0, 2.0, 3.0])).astype(np.float32) * 3


def history(store: LocalStore, manifest: Manifest) -> list[dict[str, float]]:
    return list(json.loads(store.get(manifest.output(kind="history").name)))


@pytest.mark.parametrize("task", ["single", "ordinal", "multilabel"])
def test_a_taught_student_is_compared_at_each_validation(task: str, store: LocalStore, cluster: Cluster) -> None:
    corpus, spec, said = tiny_corpus(store, task=task), spec_of(store), []  # type: tuple[Corpus, Any, list[str]]
    labels = [tiny_labels(corpus, name, opinions, views=2) for name in ("t", "u")]
    context = Context(store, cluster, spec.run, message=said.append)
    manifest = distill(context, corpus, labels, None, spec, arm=TAUGHT).manifest
    judged = [row for row in history(store, manifest) if row.keys() >= COLUMNS]
    assert [row["step"] for row in judged] == [row["step"] for row in history(store, manifest) if "val_nll" in row]
    assert manifest.facts["best"].keys() >= COLUMNS
    assert any("from its teachers: KL" in line and "on validation images" in line for line in said)


def test_labels_alone_are_compared_with_nobody(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store)
    labels = tiny_labels(corpus, "t", opinions, views=2)
    manifest = distill(Context(store, cluster, spec.run), corpus, [labels], None, spec, arm=LABELS_ONLY).manifest
    assert not any(COLUMNS & row.keys() for row in history(store, manifest))


def test_without_labels_to_validate_by_the_training_views_are_left(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store, val=0), spec_of(store)
    labels = tiny_labels(corpus, "t", opinions, views=2)
    best = distill(Context(store, cluster, spec.run), corpus, [labels], None, spec).manifest.facts["best"]
    assert {name for name in COLUMNS if name in best} == {name for name in COLUMNS if name.startswith("train_")}


def test_a_student_that_says_what_its_teachers_say_has_learnt_all(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    manifest = tiny_labels(corpus, "t", opinions, views=2)
    rows = [(n, row) for n, shard in enumerate(corpus.shards) if shard.split == "train" for row in range(len(shard))]
    comparison = TeacherComparison(corpus, [manifest], ViewRecipe(32), rows)
    reader = SoftLabelReader(corpus, [manifest])
    same = np.concatenate([reader.logits(n, 1)[0] for n in range(2)])
    seen: list[np.ndarray] = []

    def predict(views: np.ndarray) -> np.ndarray:
        seen.append(views)
        return same

    found = comparison.on_training(predict)
    assert seen[0].shape == (32, 32, 32, 3)
    assert found["train_teacher_kl"] == pytest.approx(0, abs=1e-6)
    assert found["train_teacher_r2"] == pytest.approx(1)
    val = [(n, row) for n, shard in enumerate(corpus.shards) if shard.split == "val" for row in range(len(shard))]
    plain = np.concatenate([reader.logits(n, 0)[0][[row for m, row in val if m == n]] for n in {n for n, _ in val}])
    assert comparison.on_validation(val, plain)["val_teacher_kl"] == pytest.approx(0, abs=1e-6)


def test_lines_say_what_a_constant_would_reach() -> None:
    row = {"train_teacher_kl": 0.22, "train_constant_kl": 0.232, "train_teacher_r2": 0.05}
    assert comparison_text(row) == "from its teachers: KL 0.22 on training views (a constant 0.232, R2 0.05)"
    assert underfits(row)
    assert not underfits({**row, "train_teacher_kl": 0.1})
    assert (comparison_text({"loss": 1.0}), underfits({"loss": 1.0})) == ("", False)
