"""Losses on the relations of a batch against loops over pairs and triplets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.registry import feature_loss
from tests.models.feature_losses.given import features, targets

NAMES = ["similarity", "pkt", "rkd"]


def loss(name: str, own: list[Shape], theirs: list[Shape], **options: object) -> FeatureLoss:
    return feature_loss(name, own, theirs, classes=3, samples=9, temperature=1.0, **options)


def value(name: str, own: torch.Tensor, theirs: torch.Tensor, **options: object) -> torch.Tensor:
    one = loss(name, [tuple(own.shape[1:])], [tuple(theirs.shape[1:])], **options)
    return one([own], [theirs], targets(len(own)))


def huber(gap: float) -> float:
    return 0.5 * gap * gap if abs(gap) < 1 else abs(gap) - 0.5


def test_similarity_compares_normalised_gram_matrices_of_flattened_maps() -> None:
    own, theirs = features(4, 2, 3, 3), features(4, 5, 2, 2, seed=1)

    def gram(maps: np.ndarray) -> np.ndarray:
        flat = maps.reshape(len(maps), -1)
        products = np.array([[a @ b for b in flat] for a in flat])
        return products / np.linalg.norm(products, axis=1, keepdims=True)

    want = ((gram(own.numpy()) - gram(theirs.numpy())) ** 2).sum() / 4**2
    assert value("similarity", own, theirs).item() == pytest.approx(want, rel=1e-12)


def test_similarity_of_two_orthogonal_samples_by_hand() -> None:
    apart, together = torch.eye(2), torch.ones(2, 2)
    # Rows (1, 0) and (0, 1) against (1, 1) / sqrt(2) twice.
    assert value("similarity", apart, together).item() == pytest.approx((4 - 2 * 2**0.5) / 4)


def test_pkt_is_the_divergence_of_cosine_shares() -> None:
    own, theirs = features(4, 3), features(4, 6, seed=1)

    def shares(vectors: np.ndarray) -> np.ndarray:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        likeness = (unit @ unit.T + 1) / 2
        return likeness / likeness.sum(1, keepdims=True)

    p, q = shares(theirs.numpy()), shares(own.numpy())
    want = (p * np.log(p / q)).sum() / 4**2
    assert value("pkt", own, theirs).item() == pytest.approx(want, rel=1e-10)


def test_pkt_of_opposite_samples_is_finite() -> None:
    own = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    found = value("pkt", own, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    found.backward()
    assert own.grad is not None
    # Shares (1/2, 1/2) against (1, 0), in both rows.
    assert found.item() == pytest.approx(2 * 0.5 * (np.log(0.5) + np.log(0.5 / 1e-7)) / 4, rel=1e-4)
    assert bool(own.grad.isfinite().all())


def rkd_by_loops(own: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Losses of distances and angles."""
    count = len(own)

    def spacing(x: np.ndarray) -> np.ndarray:
        lengths = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        return lengths / lengths[lengths > 0].mean()

    def cosine(x: np.ndarray, i: int, j: int, k: int) -> float:
        first, second = x[j] - x[i], x[k] - x[i]
        scale = np.linalg.norm(first) * np.linalg.norm(second)
        return float(first @ second / scale) if scale > 0 else 0.0

    gaps = (spacing(own) - spacing(theirs)).ravel()
    triplets = itertools.product(range(count), repeat=3)
    return (
        sum(huber(gap) for gap in gaps) / count**2,
        sum(huber(cosine(own, *t) - cosine(theirs, *t)) for t in triplets) / count**3,
    )


def test_rkd_is_huber_over_all_pairs_and_triplets() -> None:
    own, theirs = features(5, 3), features(5, 6, seed=1)
    own[4] *= 40  # distances in the linear part of Huber's loss too
    distance, angle = rkd_by_loops(own.numpy(), theirs.numpy())
    assert value("rkd", own, theirs).item() == pytest.approx(25 * distance + 50 * angle, rel=1e-10)
    assert value("rkd", own, theirs, distance=1.0, angle=0.0).item() == pytest.approx(distance, rel=1e-10)
    assert value("rkd", own, theirs, distance=0.0, angle=2.0).item() == pytest.approx(2 * angle, rel=1e-10)


def test_rkd_with_duplicates_counts_the_mean_of_distances_that_are_not_zero() -> None:
    own, theirs = features(4, 3), features(4, 6, seed=1)
    own[1] = own[0]
    distance, angle = rkd_by_loops(own.numpy(), theirs.numpy())
    assert value("rkd", own, theirs).item() == pytest.approx(25 * distance + 50 * angle, rel=1e-10)


def test_rkd_knows_neither_scale_nor_place_nor_rotation() -> None:
    own = features(5, 3)
    rotation, _ = torch.linalg.qr(features(3, 3, seed=2))
    assert value("rkd", own, own @ rotation * 7 + 100).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("name", ["pkt", "rkd"])
def test_vectors_of_maps_are_their_means(name: str) -> None:
    own, theirs = features(4, 3, 2, 2), features(4, 6, seed=1)
    assert value(name, own, theirs).item() == value(name, own.mean((2, 3)), theirs).item()


@pytest.mark.parametrize("name", NAMES)
def test_several_taps_are_summed_from_the_deepest_on(name: str) -> None:
    own, theirs = [features(4, 2), features(4, 3)], [features(4, 5, seed=1)]
    together = loss(name, [(2,), (3,)], [(5,)])(own, theirs, targets(4))
    assert together.item() == value(name, own[1], theirs[0]).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_an_equal_teacher_costs_nothing_and_pulls_nowhere(name: str, rows: int) -> None:
    own = features(rows, 3).requires_grad_()
    found = value(name, own, own.detach())
    found.backward()
    assert own.grad is not None
    assert found.item() == 0
    assert own.grad.abs().max().item() < 1e-15


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_has_no_relations_but_a_graph(name: str) -> None:
    own = features(1, 3).requires_grad_()
    found = value(name, own, features(1, 6, seed=1))
    found.backward()
    assert own.grad is not None
    assert found.item() == pytest.approx(0, abs=1e-30)
    assert own.grad.abs().max().item() < 1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["duplicates", "all alike", "one is zero", "all are zero"])
def test_degenerate_batches_have_finite_losses_and_gradients(name: str, kind: str) -> None:
    own, theirs = features(4, 3).float(), features(4, 6, seed=1).float()
    if kind == "duplicates":
        own[1], theirs[2] = own[0], theirs[3]
    elif kind == "all alike":
        own[:] = own[0].clone()
    elif kind == "one is zero":
        own[0], theirs[1] = 0, 0
    else:
        own[:], theirs[:] = 0, 0
    own.requires_grad_()
    found = value(name, own, theirs)
    found.backward()
    assert own.grad is not None
    assert bool(found.isfinite())
    assert bool(own.grad.abs().max() < 1e3)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_formula(name: str) -> None:
    own, theirs = features(4, 3).requires_grad_(), features(4, 5, seed=1)
    assert torch.autograd.gradcheck(lambda x: value(name, x, theirs), (own,))
