"""Losses on a teacher's logits against formulas in numpy, and at the edges."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from models.losses.logits import logit_loss, standardised
from models.losses.targets import Targets
from tests.models.losses.batches import T, Z, divergence, gradients_agree, softmax, targets, value_and_gradient

OPTIONS = {"dkd": {"alpha": 1.0, "beta": 2.0}, "dist": {"beta": 1.0, "gamma": 2.0}}
TEMPERED = ("kl", "dkd", "dist", "soft_cross_entropy", "cumulative_kl")
EVERY = (*TEMPERED, "logit_mse", "soft_binary", "grade_mse")
ZERO_WHEN_EQUAL = tuple(name for name in EVERY if name != "soft_cross_entropy")


def loss_of(name: str, z: Tensor, t: Tensor, given: Targets | None = None, temperature: float = 2.0) -> Tensor:
    found = logit_loss(name, temperature=temperature, **OPTIONS.get(name, {}))
    return found(z, t, given or targets(rows=len(z)))


def binary_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def dkd_of(z: np.ndarray, t: np.ndarray, target: int, temperature: float) -> float:
    q, p = softmax(z / temperature), softmax(t / temperature)
    others = [c for c in range(len(z)) if c != target]
    rest = divergence(p[others] / p[others].sum(), q[others] / q[others].sum())
    return float(temperature**2 * (binary_divergence(p[target], q[target]) + 2 * rest))


def test_kl_is_hinton_s() -> None:
    q, p = softmax(Z / 3), softmax(T[0] / 3)
    np.testing.assert_allclose(loss_of("kl", Z, T[0], temperature=3.0), 9 * divergence(p, q))


def test_soft_cross_entropy_is_kl_plus_the_teacher_s_entropy() -> None:
    p = softmax(T[0] / 2)
    entropy = 4 * -(p * np.log(p)).sum(-1)
    gap = loss_of("soft_cross_entropy", Z, T[0]) - loss_of("kl", Z, T[0])
    np.testing.assert_allclose(gap, entropy)


def test_soft_cross_entropy_has_the_gradient_of_kl() -> None:
    found, expected = (value_and_gradient(partial(loss_of, n, t=T[0]), Z)[1] for n in ("soft_cross_entropy", "kl"))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_dkd_separates_the_target_from_the_rest() -> None:
    found = loss_of("dkd", Z, T[0], targets(label_B=torch.tensor([2, 0])))
    np.testing.assert_allclose(found, [dkd_of(Z[i].numpy(), T[0, i].numpy(), (2, 0)[i], 2.0) for i in range(2)])


def test_dkd_of_an_unlabelled_row_takes_the_teacher_s_class() -> None:
    assert T[1, 1].argmax() == 1
    found = loss_of("dkd", Z, T[1], targets(label_B=torch.tensor([2, -1])))
    assert found[1].item() == pytest.approx(dkd_of(Z[1].numpy(), T[1, 1].numpy(), 1, 2.0))


def test_dkd_of_a_mixture_pays_for_both_labels() -> None:
    share = torch.tensor([0.25, 1.0], dtype=torch.float64)
    mixed = targets(label_B=torch.tensor([2, 0]), partner_label_B=torch.tensor([1, -1]), share_B=share)
    own, other = (dkd_of(Z[0].numpy(), T[0, 0].numpy(), target, 2.0) for target in (2, 1))
    assert loss_of("dkd", Z, T[0], mixed)[0].item() == pytest.approx(0.25 * own + 0.75 * other)


def test_dkd_without_its_split_is_kl() -> None:
    # KL = KL of target against rest + (1 - p_target) KL among the rest (2203.08679, eq. 6).
    p = softmax(T[0] / 2)[[0, 1], [2, 0]]
    given = targets(label_B=torch.tensor([2, 0]))
    one, rest = (logit_loss("dkd", temperature=2.0, alpha=a, beta=1 - a)(Z, T[0], given) for a in (1.0, 0.0))
    np.testing.assert_allclose(one.numpy() + (1 - p) * rest.numpy(), loss_of("kl", Z, T[0]))


def test_dist_correlates_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    z, t = (torch.from_numpy(rng.normal(size=(6, 3))) for _ in range(2))
    q, p = softmax(z / 2), softmax(t / 2)
    rows = [1 - np.corrcoef(q[i], p[i])[0, 1] for i in range(6)]
    columns = [1 - np.corrcoef(q[:, c], p[:, c])[0, 1] for c in range(3)]
    np.testing.assert_allclose(loss_of("dist", z, t), 4 * (np.array(rows) + 2 * np.mean(columns)))


def test_dist_of_one_row_has_no_columns_to_correlate() -> None:
    found = loss_of("dist", Z[:1], T[0, :1])
    assert found.item() == pytest.approx(4 * (1 - np.corrcoef(softmax(Z[0] / 2), softmax(T[0, 0] / 2))[0, 1]))


def test_dist_of_a_student_that_says_the_same_of_every_class_is_finite() -> None:
    value, gradient = value_and_gradient(partial(loss_of, "dist", t=T[0]), torch.zeros(2, 3, dtype=torch.float64))
    # Nothing correlates with a constant: 1 for the row, 1 for each column.
    np.testing.assert_allclose(value, [12, 12])
    assert torch.isfinite(gradient).all()


def test_logit_mse_does_not_see_what_softmax_does_not_see() -> None:
    gap = Z - T[0]
    expected = np.asarray(gap - gap.mean(1, keepdim=True)) ** 2
    np.testing.assert_allclose(loss_of("logit_mse", Z, T[0]), expected.mean(1))
    np.testing.assert_allclose(loss_of("logit_mse", Z, Z + 5.0), [0, 0], atol=1e-12)


def test_logit_mse_of_a_multilabel_corpus_sees_every_offset() -> None:
    given = targets(labels_BC=torch.ones(2, 3))
    np.testing.assert_allclose(loss_of("logit_mse", Z, Z + 5.0, given), [25, 25])


def test_soft_binary_is_the_mean_of_binary_divergences() -> None:
    p, q = 1 / (1 + np.exp(-T[0].numpy())), 1 / (1 + np.exp(-Z.numpy()))
    np.testing.assert_allclose(loss_of("soft_binary", Z, T[0]), binary_divergence(p, q).mean(-1))


def test_cumulative_kl_compares_the_probabilities_of_being_worse() -> None:
    q, p = softmax(Z / 2), softmax(T[0] / 2)
    worse_q, worse_p = (np.stack([x[:, 1] + x[:, 2], x[:, 2]], axis=1) for x in (q, p))
    np.testing.assert_allclose(loss_of("cumulative_kl", Z, T[0]), 4 * binary_divergence(worse_p, worse_q).mean(-1))


def test_grade_mse_compares_expected_grades() -> None:
    gap = (softmax(Z) - softmax(T[0])) @ [0, 1, 2]
    np.testing.assert_allclose(loss_of("grade_mse", Z, T[0]), (gap / 2) ** 2)


def test_standardised_rows_have_mean_zero_and_deviation_one() -> None:
    expected = (Z - Z.mean(1, keepdim=True)).numpy() / Z.numpy().std(axis=1, keepdims=True)
    np.testing.assert_allclose(standardised(Z), expected, rtol=1e-6)


def test_standardised_constant_rows_are_zero_with_a_finite_gradient() -> None:
    value, gradient = value_and_gradient(standardised, torch.full((2, 3), 7.0))
    assert (value == 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_the_numerical_ones(name: str) -> None:
    assert gradients_agree(partial(loss_of, name, t=T[0]))


@pytest.mark.parametrize("name", ZERO_WHEN_EQUAL)
def test_equal_student_and_teacher_cost_nothing_and_move_nothing(name: str) -> None:
    value, gradient = value_and_gradient(partial(loss_of, name, t=T[0]), T[0])
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_extreme_logits_stay_finite(name: str) -> None:
    z, t = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]]), torch.tensor([[-1e4, 0.0, 1e4], [1e4, 1e4, -1e4]])
    for own, other in ((z, t), (t, z), (z, z)):
        value, gradient = value_and_gradient(partial(loss_of, name, t=other), own)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", [name for name in EVERY if name != "soft_binary"])
def test_a_single_class_costs_nothing(name: str) -> None:
    given = targets(label_B=torch.tensor([0, -1]))
    value, gradient = value_and_gradient(partial(loss_of, name, t=Z[:, 1:2], given=given), Z[:, :1])
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_one_row_is_enough(name: str) -> None:
    value, gradient = value_and_gradient(partial(loss_of, name, t=T[0, :1]), Z[:1])
    assert value.shape == (1,)
    assert torch.isfinite(gradient).all()


def test_an_unknown_loss_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no loss 'nce' on logits; known: kl, .*grade_mse"):
        logit_loss("nce", temperature=1.0)
