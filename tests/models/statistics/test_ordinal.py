"""Cumulative logits against sums of probabilities, and cut points against every possible choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from models.statistics.counts import confusion, quadratic_kappa
from models.statistics.ordinal import CutPoints, at_least, cumulative_logits, decide, expected_grade, fit_cut_points
from models.statistics.ordinal import grade_of_logits as grade_of

PROB = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])


def kappa(predicted: np.ndarray, label: np.ndarray, classes: int) -> float:
    return float(quadratic_kappa(confusion(label, predicted, classes, np.ones((len(label), 1))))[0])


def graded(n: int, classes: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores around squeezed grades, every grade at least once; rounded, so that there are ties."""
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return np.round(np.clip(0.5 * label + rng.normal(0.4, noise, n), 0, classes - 1), 1), label


def test_cumulative_logits_are_the_log_odds_of_a_worse_grade() -> None:
    z = torch.from_numpy(np.log(PROB) + 3.0)
    worse = np.stack([PROB[:, 1] + PROB[:, 2], PROB[:, 2]], axis=1)
    np.testing.assert_allclose(cumulative_logits(z), np.log(worse / (1 - worse)))


def test_cumulative_logits_never_rise_with_the_grade() -> None:
    z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    assert (cumulative_logits(z).diff(dim=-1) <= 0).all()


def test_cumulative_logits_of_extreme_logits_and_of_one_class() -> None:
    found = cumulative_logits(torch.tensor([[1e4, -1e4, 0.0]]))
    np.testing.assert_allclose(found, [[-1e4, -1e4]], rtol=1e-6)
    assert cumulative_logits(torch.zeros(2, 1)).shape == (2, 0)


def test_gradients_of_cumulative_logits_are_the_numerical_ones() -> None:
    z = torch.tensor([[1.0, -2.0, 0.5, 3.0], [50.0, 0.0, -50.0, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cumulative_logits, (z,))


def test_expected_grade_is_the_mean_of_the_grades() -> None:
    np.testing.assert_allclose(expected_grade(PROB), [0.4, 1.5])
    np.testing.assert_allclose(grade_of(torch.from_numpy(np.log(PROB))), [0.4, 1.5])


def test_at_least_sums_the_worse_grades() -> None:
    np.testing.assert_allclose(at_least(PROB, 1), [0.3, 0.9])
    np.testing.assert_allclose(at_least(PROB, 2), [0.1, 0.6])


def test_a_score_on_a_cut_point_is_the_worse_grade() -> None:
    cuts = CutPoints((0.5, 1.5), ())
    np.testing.assert_array_equal(decide(np.array([0.0, 0.49, 0.5, 1.5, 2.0]), cuts), [0, 0, 1, 2, 2])


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_cut_points_have_a_larger_kappa(classes: int, seed: int) -> None:
    score, label = graded(14, classes, 0.5, seed)
    cuts = fit_cut_points(score, label, classes)
    places = np.concatenate([[-1.0], np.unique(score) + 1e-6])
    every = itertools.combinations_with_replacement(places, classes - 1)
    best = max(kappa(np.searchsorted(edges, score), label, classes) for edges in every)
    assert kappa(decide(score, cuts), label, classes) == pytest.approx(best)
    assert list(cuts.values) == sorted(cuts.values)


def test_fitted_cut_points_help_a_timid_model_on_other_images() -> None:
    score, label = graded(2000, 5, 0.2)
    cuts = fit_cut_points(score[:1000], label[:1000], 5)
    fitted, plain = (decide(score[1000:], c) for c in (cuts, CutPoints((0.5, 1.5, 2.5, 3.5), ())))
    assert kappa(fitted, label[1000:], 5) > kappa(plain, label[1000:], 5) + 0.1


def test_cut_points_lie_halfway_between_the_scores() -> None:
    assert fit_cut_points(np.array([0.1, 0.3, 0.9]), np.array([0, 1, 2]), 3).values == pytest.approx((0.2, 0.6))


def test_equal_scores_get_equal_grades() -> None:
    cuts = fit_cut_points(np.full(6, 0.7), np.array([0, 0, 0, 0, 1, 2]), 3)
    assert len(set(decide(np.full(6, 0.7), cuts).tolist())) == 1


def test_the_order_of_the_images_changes_nothing() -> None:
    score, label = graded(200, 5, 0.4)
    assert fit_cut_points(score, label, 5) == fit_cut_points(score[::-1], label[::-1], 5)


def test_a_grade_without_images_is_named_and_the_others_are_fitted() -> None:
    cuts = fit_cut_points(np.array([0.1, 0.2, 0.4, 0.5]), np.array([0, 0, 1, 1]), 4)
    assert cuts.missing == (2, 3)
    assert cuts.values[0] == pytest.approx(0.3)
    assert list(cuts.values) == sorted(cuts.values)
    assert cuts.values[1] > 0.5


def test_images_of_one_grade_leave_even_cut_points() -> None:
    assert fit_cut_points(np.array([0.1, 0.9]), np.array([1, 1]), 4) == CutPoints((0.5, 1.5, 2.5), (0, 2, 3))


def test_unlabelled_images_do_not_count() -> None:
    score, label = np.array([0.1, 0.3, 0.9, 0.0]), np.array([0, 1, 2, -1])
    assert fit_cut_points(score, label, 3) == fit_cut_points(score[:3], label[:3], 3)


def test_a_single_grade_has_no_cut_points() -> None:
    assert fit_cut_points(np.zeros(3), np.zeros(3, dtype=int), 1) == CutPoints((), ())
