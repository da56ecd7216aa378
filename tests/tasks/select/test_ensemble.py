"""Calibration of teachers, and the numbers of an ensemble worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from infra.storage.store import LocalStore
from models.statistics.calibration import fit_temperature
from tasks.data.corpus import Shard
from tasks.data.soft_labels import SoftLabelReader, entropy, sigmoid, softmax
from tasks.select.ensemble import agreement, calibrate, confidence, disagreement
from tests.tiny import tiny_corpus, tiny_labels

EACH = np.array([[[0.8, 0.2, 0.0], [0.6, 0.4, 0.0]], [[0.2, 0.8, 0.0], [0.6, 0.4, 0.0]]])
MEAN = EACH.mean(axis=0)
LN2 = np.log(2)


def test_confidence_is_the_largest_probability() -> None:
    assert confidence(MEAN, many=False).tolist() == [0.5, 0.6]


def test_confidence_of_many_labels_is_the_mean_sureness_of_its_decisions() -> None:
    assert confidence(np.array([[0.9, 0.2, 0.5]]), many=True) == pytest.approx((0.9 + 0.8 + 0.5) / 3)


def test_agreement_is_the_share_of_teachers_with_the_top_class() -> None:
    assert agreement(EACH, MEAN, many=False).tolist() == [0.5, 1.0]


def test_agreement_on_many_labels_is_a_mean_over_classes() -> None:
    each = np.array([[[0.9, 0.9, 0.1]], [[0.2, 0.9, 0.1]], [[0.8, 0.9, 0.1]]])
    # Two of three, three of three, three of three.
    assert agreement(each, each.mean(axis=0), many=True) == pytest.approx([8 / 9])


def test_entropy_is_in_nats() -> None:
    assert entropy(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), many=False) == pytest.approx([LN2, 0])
    assert entropy(np.array([[0.5, 0.0, 1.0]]), many=True) == pytest.approx([LN2 / 3])


def test_disagreement_is_the_divergence_of_jensen_and_shannon() -> None:
    own = -0.8 * np.log(0.8) - 0.2 * np.log(0.2)
    assert disagreement(EACH, MEAN, many=False) == pytest.approx([LN2 - own, 0])


def test_disagreement_of_opposites_is_one_bit() -> None:
    each = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    for many in (False, True):
        assert disagreement(each, each.mean(axis=0), many=many) == pytest.approx([LN2])


def test_one_teacher_does_not_disagree() -> None:
    assert disagreement(EACH[:1], EACH[0], many=False).tolist() == [0, 0]


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


@pytest.mark.parametrize("true", [0.5, 2.0])
@pytest.mark.parametrize("many", [True, False])
def test_temperature_of_averaged_views_is_recovered(many: bool, true: float) -> None:
    rng = np.random.default_rng(0)
    views = rng.normal(0, 2, (3, 20000, 4))
    if many:
        labels = (rng.random((20000, 4)) < sigmoid(views).mean(axis=0)).astype(int)
    else:
        labels = (rng.random((20000, 1)) > softmax(views).mean(axis=0).cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(views * true, labels) == pytest.approx(true, rel=0.05)


def test_one_view_of_several_has_the_temperature_of_one() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 4, (300, 3)), rng.integers(-1, 3, 300)
    assert fit_temperature(logits[None], labels) == fit_temperature(logits, labels)
    assert fit_temperature(np.stack([logits] * 3), labels) == fit_temperature(logits, labels)


def test_no_labels_leave_the_temperature_at_one() -> None:
    assert fit_temperature(np.ones((4, 3)), np.full(4, -1)) == 1.0


def boastful(shard: Shard, view: int) -> np.ndarray:
    """Right in three of four images and equally sure of all: calibrated, it is 75 % sure."""
    named = np.where(np.arange(len(shard)) % 4 == 0, (shard.label + 1) % 3, shard.label)
    return (np.eye(3)[named] * 20).astype(np.float32)


def test_calibration_tells_nll_and_ece_before_and_after(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=16)
    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "a", boastful)])
    temperatures, figures = calibrate(corpus, teaching, fit=True)
    assert temperatures["a"] == pytest.approx(20 / np.log(0.75 / 0.125), rel=0.01)
    # Wrong a quarter of the time at a cost of 20 nats; then the entropy of (3/4, 1/8, 1/8).
    expected = {"images": 16, "nll_raw": 5, "nll": -0.75 * np.log(0.75) - 0.25 * np.log(0.125)}
    assert {name: figures["a"][name] for name in expected} == pytest.approx(expected, abs=2e-3)
    assert (figures["a"]["ece_raw"], figures["a"]["ece"]) == pytest.approx((0.25, 0), abs=2e-3)


def test_averaged_views_are_measured_as_averages(store: LocalStore) -> None:
    def turned(shard: Shard, view: int) -> np.ndarray:
        """Sure of another class in each of three views: the mean knows nothing."""
        return (np.eye(3)[(np.arange(len(shard)) + view) % 3] * 20).astype(np.float32)

    corpus = tiny_corpus(store, val=16)
    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "a", turned, val_views=2)])
    _, figures = calibrate(corpus, teaching, fit=False, views=2)
    assert figures["a"]["nll"] == pytest.approx(np.log(3), abs=1e-3)
    assert (figures["a"]["images"], figures["a"]["views"]) == (16, 3)


def test_without_fitting_both_readings_agree(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=16)
    temperatures, figures = calibrate(corpus, SoftLabelReader(corpus, [tiny_labels(corpus, "a", boastful)]), fit=False)
    assert temperatures == {"a": 1.0}
    assert figures["a"]["nll"] == figures["a"]["nll_raw"]


def test_corpus_without_validation_images_has_no_figures(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=0)
    assert calibrate(corpus, SoftLabelReader(corpus, [tiny_labels(corpus, "a", boastful)]), fit=True) == (
        {"a": 1.0},
        {},
    )


def test_multilabel_teachers_are_measured(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="multilabel")
    flat = tiny_labels(corpus, "a", lambda shard, view: np.zeros((len(shard), 3), np.float32))
    _, figures = calibrate(corpus, SoftLabelReader(corpus, [flat]), fit=True)
    assert figures["a"]["nll"] == pytest.approx(np.log(2), abs=1e-3)
