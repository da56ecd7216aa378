"""Calibration and sample weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.errors import UsageError
from infra.store import LocalStore
from tasks.corpus import Shard
from tasks.select import fit_temperature, read_weights, select
from tasks.spec import SelectSection
from tests.tiny import tiny_corpus, tiny_labels


def section(**values: object) -> SelectSection:
    return SelectSection.model_validate(values)


def rising(shard: Shard, view: int) -> np.ndarray:
    """Row r is sure of class r mod 3 by 0.2 r."""
    rows = np.arange(len(shard))
    return (np.eye(3)[rows % 3] * rows[:, None] * 0.2).astype(np.float32)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_known_temperature_is_recovered(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((len(logits), 1)) > chances.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(logits * true, labels) == pytest.approx(true, rel=0.05)


def test_known_temperature_of_a_multilabel_teacher_is_recovered() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (10000, 3))
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)
    labels[rng.random(logits.shape) < 0.3] = -1
    assert fit_temperature(logits * 2, labels) == pytest.approx(2, rel=0.05)


def test_no_labels_leave_the_temperature_at_one() -> None:
    assert fit_temperature(np.ones((4, 3)), np.full(4, -1)) == 1.0


def test_unsure_unlabelled_samples_are_dropped_and_labelled_kept(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    manifest = select(
        corpus, [tiny_labels(corpus, "a", rising)], section(calibrate=False, min_confidence=0.8), store
    ).manifest
    weights = read_weights(store, manifest)
    confidence = np.exp(0.2 * np.arange(16)) / (np.exp(0.2 * np.arange(16)) + 2)
    expected = [1.0 if row < 8 or confidence[row] >= 0.8 else 0.0 for row in range(16)]
    assert 0.0 in expected[8:]
    assert 1.0 in expected[8:]
    assert [weights[f"train-{row:04d}"] for row in range(16)] == expected
    assert manifest.facts["dropped"] == expected.count(0.0)
    assert manifest.facts["kept"] == expected.count(1.0)


def test_calibration_reaches_the_confidences(store: LocalStore) -> None:
    def boastful(shard: Shard, view: int) -> np.ndarray:
        # Right in three of four val images and equally sure of all: the calibrated sureness is 0.75.
        named = np.where(np.arange(len(shard)) % 4 == 0, (shard.label + 1) % 3, shard.label)
        return (np.eye(3)[named] * 20).astype(np.float32)

    corpus = tiny_corpus(store, val=16)
    labels = tiny_labels(corpus, "a", boastful)
    manifest = select(corpus, [labels], section(min_confidence=0.7), store).manifest
    assert manifest.facts["temperatures"]["a"] == pytest.approx(20 / np.log(0.75 / 0.125), rel=0.01)
    assert select(corpus, [labels], section(min_confidence=0.8), store).manifest.facts["dropped"] == 8
    assert manifest.facts["dropped"] == 0


def test_sample_that_no_teacher_could_judge_is_dropped(store: LocalStore) -> None:
    def broken(shard: Shard, view: int) -> np.ndarray:
        logits = rising(shard, view)
        logits[[2, 12]] = np.nan
        return logits

    corpus = tiny_corpus(store, train=8, val=16, test=16, unlabelled=8)
    weights = read_weights(store, select(corpus, [tiny_labels(corpus, "a", broken)], section(), store).manifest)
    assert [key for key, weight in weights.items() if weight == 0] == ["train-0012"]


def test_classes_of_the_pool_stand_beside_the_prior(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    facts = select(corpus, [tiny_labels(corpus, "a", rising)], section(), store).manifest.facts
    assert facts["pool_by_class"] == {"class-0": 3, "class-1": 2, "class-2": 3}
    assert sum(facts["labelled_by_class"].values()) == 8


def test_multilabel_corpora_are_weighed(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="multilabel")
    manifest = select(corpus, [tiny_labels(corpus, "a", rising)], section(min_confidence=0.5), store).manifest
    assert manifest.facts["kept"] == 32


def test_second_call_makes_nothing_and_equal_work_gives_equal_ids(tmp_path: Path) -> None:
    ids = []
    for name in ("one", "two"):
        store = LocalStore(tmp_path / name)
        corpus = tiny_corpus(store)
        labels = tiny_labels(corpus, "a", rising)
        first = select(corpus, [labels], section(), store)
        assert not first.cached
        assert select(corpus, [labels], section(), store).cached
        ids.append(first.manifest.output(kind="weights").id)
    assert ids[0] == ids[1]


def test_select_without_labels(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="soft labels of at least one teacher"):
        select(tiny_corpus(store), [], section(), store)
