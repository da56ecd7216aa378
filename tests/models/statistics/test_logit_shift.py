"""A shift that validation chooses, on the exact posteriors of a long-tailed mixture."""

from __future__ import annotations

import numpy as np
import pytest

from models.statistics.logit_shift import fit_strength, log_prior, shift_of, shifted
from models.statistics.metrics import metrics

CLASSES = 8
PRIOR = 100.0 ** (-np.arange(CLASSES) / (CLASSES - 1))
LOG_PRIOR = np.log(PRIOR / PRIOR.sum())


def mixture(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact posteriors [n, 8] and labels [n] of eight normal classes, the first 100 times as frequent as the last."""
    rng = np.random.default_rng(seed)
    label = rng.choice(CLASSES, size=n, p=np.exp(LOG_PRIOR))
    centres = 3.35 * np.eye(CLASSES)
    x = centres[label] + rng.normal(size=(n, CLASSES))
    logits = LOG_PRIOR - ((x[:, None] - centres) ** 2).sum(axis=2) / 2
    prob = np.exp(logits - logits.max(axis=1, keepdims=True))
    return prob / prob.sum(axis=1, keepdims=True), label


def figure(prob: np.ndarray, label: np.ndarray, metric: str = "macro_f1") -> float:
    value = metrics("single", prob, label)[metric]
    assert value is not None
    return value


def fitted(prob: np.ndarray, label: np.ndarray, metric: str = "macro_f1") -> float:
    return fit_strength(prob, label, LOG_PRIOR, metric, np.arange(len(label)))


def test_the_whole_adjustment_lowers_macro_f1_and_the_chosen_shift_does_not() -> None:
    prob, label = mixture(20_000, 0)
    plain = figure(prob, label)
    assert plain == pytest.approx(0.914, abs=0.005)
    assert figure(shifted(prob, shift_of(1.0, LOG_PRIOR)), label) == pytest.approx(0.851, abs=0.005)
    for seed in (1, 2, 3):
        strength = fitted(*mixture(1000, seed))
        assert figure(shifted(prob, shift_of(strength, LOG_PRIOR)), label) >= plain - 0.005


def test_an_adjustment_in_the_loss_is_taken_back() -> None:
    adjusted, label = mixture(20_000, 0)
    adjusted = shifted(adjusted, shift_of(1.0, LOG_PRIOR))
    val, known = mixture(2000, 1)
    strength = fitted(shifted(val, shift_of(1.0, LOG_PRIOR)), known)
    assert strength < 0
    assert figure(shifted(adjusted, shift_of(strength, LOG_PRIOR)), label) > figure(adjusted, label) + 0.04


def test_balanced_accuracy_asks_for_rare_classes() -> None:
    strength = fitted(*mixture(3000, 1), "balanced_accuracy")
    assert strength > 0
    prob, label = mixture(20_000, 0)
    moved = shifted(prob, shift_of(strength, LOG_PRIOR))
    assert figure(moved, label, "balanced_accuracy") > figure(prob, label, "balanced_accuracy") + 0.01


def test_without_labels_nothing_is_shifted() -> None:
    prob, label = mixture(20, 0)
    assert fitted(prob, np.full_like(label, -1)) == 0.0
    assert fitted(prob[:0], label[:0]) == 0.0


def test_a_shift_of_nothing_changes_no_probability() -> None:
    prob, _ = mixture(50, 0)
    np.testing.assert_allclose(shifted(prob, shift_of(0.0, LOG_PRIOR)), prob, atol=1e-10)


def test_a_class_without_images_has_a_finite_prior() -> None:
    found = log_prior(np.array([9, 0]))
    assert np.isfinite(found).all()
    assert np.exp(found).sum() == pytest.approx(1)


def test_a_metric_of_no_decision_is_refused() -> None:
    with pytest.raises(ValueError, match="one of macro_f1, balanced_accuracy"):
        fitted(*mixture(20, 0), "auc")
