"""Shares among teachers against the papers' formulas and a search of the whole simplex."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from models.losses.logits import logit_loss
from models.losses.sharing import KINDS, min_norm_point, shares
from models.losses.targets import Targets
from tests.models.losses.batches import T, Z, softmax, targets

EVEN = np.full((2, 2), 0.5)


def shares_of(kind: str, t: Tensor = T, given: Targets | None = None, z: Tensor = Z) -> np.ndarray:
    z = z.clone().requires_grad_()
    given = given or targets(rows=len(z))
    kl = logit_loss("kl", temperature=1.0)
    losses = torch.stack([kl(z, t_NC, given) for t_NC in t])
    return shares(kind, losses, z, t, given).numpy()


def entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p)).sum(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_sum_to_one_and_nothing_is_negative(kind: str) -> None:
    found = shares_of(kind, torch.cat([T, T.flip(2)[:1]]))
    np.testing.assert_allclose(found.sum(0), 1)
    assert (found >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_teacher_has_it_all(kind: str) -> None:
    np.testing.assert_array_equal(shares_of(kind, T[:1]), [[1, 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_equal_teachers_share_evenly(kind: str) -> None:
    np.testing.assert_allclose(shares_of(kind, torch.stack([T[0], T[0]])), EVEN)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_give_shares(kind: str) -> None:
    t = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 0.0, 1e4]], [[0.0, 0.0, 0.0]]])
    found = shares_of(kind, t, targets(rows=1), torch.tensor([[1e4, 0.0, -1e4]]))
    assert found.sum() == pytest.approx(1)


def test_average_is_even() -> None:
    np.testing.assert_array_equal(shares_of("average"), EVEN)


def test_entropy_trusts_those_that_are_sure() -> None:
    three = torch.cat([T, T.flip(2)[:1]])
    h = entropy(softmax(three))
    np.testing.assert_allclose(shares_of("entropy", three), (1 - h / h.sum(0)) / 2)


def test_teachers_without_any_doubt_share_evenly() -> None:
    t = torch.tensor([[[1e4, 0.0, 0.0]] * 2, [[0.0, 1e4, 0.0]] * 2])
    np.testing.assert_array_equal(shares_of("entropy", t), EVEN)


def test_entropy_of_many_labels_is_that_of_each() -> None:
    p = 1 / (1 + np.exp(-T.numpy()))
    h = entropy(np.stack([p, 1 - p], axis=-1)).sum(-1)
    found = shares_of("entropy", given=targets(labels_BC=torch.ones(2, 3)))
    np.testing.assert_allclose(found, 1 - h / h.sum(0))


def test_confidence_trusts_those_that_know_the_label() -> None:
    error = -np.log(softmax(T)[:, [0, 1], [2, 0]])
    expected = 1 - softmax(error.T).T
    np.testing.assert_allclose(shares_of("confidence", given=targets(label_B=torch.tensor([2, 0]))), expected)


def test_confidence_shares_unlabelled_rows_evenly() -> None:
    np.testing.assert_allclose(shares_of("confidence")[:, 1], [0.5, 0.5])


def test_confidence_of_many_labels_is_the_binary_error() -> None:
    labels = torch.tensor([[1.0, 0.0, -1.0], [-1.0, -1.0, -1.0]])
    p = 1 / (1 + np.exp(-T.numpy()))
    error = -(np.log(p[:, 0, 0]) + np.log(1 - p[:, 0, 1])) / 2
    found = shares_of("confidence", given=targets(labels_BC=labels))
    np.testing.assert_allclose(found[:, 0], 1 - softmax(error))
    np.testing.assert_allclose(found[:, 1], [0.5, 0.5])


def test_aekd_mixes_the_shortest_gradient_of_the_batch() -> None:
    weight = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = shares_of("aekd", given=targets(weight_B=weight))
    # The gradient of KL at temperature 1 is q - p.
    g = ((softmax(Z) - softmax(T)) * weight.numpy()[:, None]).reshape(2, -1)
    best = float(np.clip(g[1] @ (g[1] - g[0]) / ((g[1] - g[0]) ** 2).sum(), 0.4, 0.6))
    np.testing.assert_allclose(found, [[best] * 2, [1 - best] * 2])


def test_aekd_of_losses_of_a_batch_is_one_share_a_teacher() -> None:
    z = Z.clone().requires_grad_()
    kl = logit_loss("kl", temperature=1.0)
    losses = torch.stack([kl(z, t, targets()).sum() for t in T])
    np.testing.assert_allclose(shares("aekd", losses, z, T, targets()), shares_of("aekd"))


def test_aekd_leaves_the_graph_for_the_loss() -> None:
    z = Z.clone().requires_grad_()
    kl = logit_loss("kl", temperature=1.0)
    losses = torch.stack([kl(z, t, targets()) for t in T])
    found = shares("aekd", losses, z, T, targets())
    assert not found.requires_grad
    (losses * found).sum().backward()
    assert z.grad is not None


def test_aekd_without_gradients_is_even() -> None:
    np.testing.assert_array_equal(shares("aekd", torch.ones(2, 2), Z, T, targets()), EVEN)


def test_aekd_refuses_losses_that_do_not_come_from_the_logits() -> None:
    feature = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(ValueError, match="does not come from them; use average"):
        shares("aekd", feature * 2, Z.clone().requires_grad_(), T, targets())


@pytest.mark.parametrize("cap", [0.4, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_min_norm_point_is_that_of_a_search(seed: int, cap: float) -> None:
    g = np.random.default_rng(seed).normal(size=(3, 4)) * [[1], [0.3], [2]]
    gram = g @ g.T
    found = min_norm_point(gram, cap)
    steps = np.linspace(0, 1, 201)
    grid = np.array([(a, b, 1 - a - b) for a, b in itertools.product(steps, steps)])
    grid = grid[((grid >= -1e-12) & (grid <= cap + 1e-12)).all(axis=1)]
    lengths = np.einsum("ni,ij,nj->n", grid, gram, grid)
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0
    assert found.max() <= cap + 1e-12
    assert found @ gram @ found <= lengths.min() + 1e-12
    assert np.abs(grid[lengths.argmin()] - found).max() < 0.02


def test_the_min_norm_point_of_many_teachers_meets_the_conditions_of_optimality() -> None:
    g = np.random.default_rng(0).normal(size=(8, 5)) + 0.5
    gram = g @ g.T
    found = min_norm_point(gram, 0.6)
    slope = gram @ found
    inside = found > 1e-9
    assert inside.sum() < 8
    np.testing.assert_allclose(slope[inside], found @ gram @ found, atol=1e-7)
    assert (slope[~inside] >= slope[inside].max() - 1e-7).all()


def test_no_teacher_s_logits_are_missed() -> None:
    with pytest.raises(ValueError, match="reads the teachers' logits"):
        shares("entropy", torch.ones(2, 2), Z, None, targets())


def test_an_unknown_sharing_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no sharing 'best' among teachers; known: average, entropy, confidence, aekd"):
        shares("best", torch.ones(2, 2), Z, T, targets())
