"""Attention transfer, over maps and over channels, against its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.registry import feature_loss
from tests.models.feature_losses.given import features, targets


def loss(name: str, own: list[Shape], theirs: list[Shape], **options: object) -> FeatureLoss:
    return feature_loss(name, own, theirs, classes=3, samples=9, temperature=1.0, **options)


def attention(maps: np.ndarray, power: float = 2.0) -> np.ndarray:
    """Normalised attention maps of [N, D, H, W]."""
    flat = (np.abs(maps) ** power).mean(1).reshape(len(maps), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5])
def test_attention_is_the_mean_squared_difference_of_normalised_maps(power: float) -> None:
    own, theirs = features(3, 2, 4, 5), features(3, 7, 4, 5, seed=1)
    one = loss("attention", [(2, 4, 5)], [(7, 4, 5)], power=power)
    want = ((attention(own.numpy(), power) - attention(theirs.numpy(), power)) ** 2).mean(1)
    np.testing.assert_allclose(one([own], [theirs], targets(3)), want, rtol=1e-12)


def test_attention_of_one_hot_maps_by_hand() -> None:
    own = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]]]])
    theirs = torch.tensor([[[[0.0, 5.0], [0.0, 0.0]]]])
    # (1, 0, 0, 0) against (0, 1, 0, 0), over four positions
    assert loss("attention", [(1, 2, 2)], [(1, 2, 2)])([own], [theirs], targets(1)).tolist() == [0.5]


def test_attention_ignores_how_large_a_map_is_and_of_how_many_channels() -> None:
    own = features(3, 2, 4, 4)
    theirs = torch.cat([own * 10, own * 10], dim=1)
    value_N = loss("attention", [(2, 4, 4)], [(4, 4, 4)])([own], [theirs], targets(3))
    assert torch.allclose(value_N, torch.zeros(3, dtype=torch.float64), atol=1e-30)


@pytest.mark.parametrize(("own", "theirs"), [((2, 4, 4), (3, 2, 2)), ((3, 2, 2), (2, 4, 4)), ((2, 4, 2), (3, 2, 4))])
def test_larger_maps_are_averaged_down_on_either_side(own: Shape, theirs: Shape) -> None:
    ours, teachers = features(2, *own), features(2, *theirs, seed=1)

    def small(maps: np.ndarray) -> np.ndarray:
        high, wide = maps.shape[2] // 2, maps.shape[3] // 2
        return maps.reshape(*maps.shape[:2], 2, high, 2, wide).mean((3, 5))

    want = ((attention(small(ours.numpy())) - attention(small(teachers.numpy()))) ** 2).mean(1)
    np.testing.assert_allclose(loss("attention", [own], [theirs])([ours], [teachers], targets(2)), want, rtol=1e-12)


def test_stages_are_paired_from_the_deepest_on_and_summed() -> None:
    shapes: list[Shape] = [(1, 8, 8), (2, 4, 4), (3, 2, 2)]
    own = [features(2, *shape) for shape in shapes]
    theirs = [features(2, *shape, seed=1) for shape in shapes[1:]]
    single = [
        loss("attention", [s], [s])([a], [b], targets(2)) for s, a, b in zip(shapes[1:], own[1:], theirs, strict=True)
    ]
    assert torch.allclose(loss("attention", shapes, shapes[1:])(own, theirs, targets(2)), single[0] + single[1])


def test_attention_needs_maps() -> None:
    with pytest.raises(ValueError, match=r"attention needs feature maps \(D, H, W\), and \(5,\) is none"):
        loss("attention", [(2, 4, 4)], [(5,)])


def test_a_power_without_finite_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        loss("attention", [(2, 4, 4)], [(5, 4, 4)], power=0.5)


def by_channel(own: np.ndarray, theirs: np.ndarray) -> float:
    """Frobenius distance of spatially normalised channels."""
    total = 0.0
    for n in range(own.shape[0]):
        for d in range(own.shape[1]):
            gap = own[n, d] / np.linalg.norm(own[n, d]) - theirs[n, d] / np.linalg.norm(theirs[n, d])
            total += float((gap**2).sum())
    return total**0.5


def test_channel_attention_is_the_frobenius_distance_of_the_whole_batch() -> None:
    own, theirs = features(3, 4, 5, 2), features(3, 4, 5, 2, seed=1)
    value = loss("attention_channels", [(4, 5, 2)], [(4, 5, 2)])([own], [theirs], targets(3))
    assert value.shape == ()
    assert value.item() == pytest.approx(by_channel(own.numpy(), theirs.numpy()), rel=1e-12)


def test_channel_attention_is_averaged_over_taps() -> None:
    shapes: list[Shape] = [(4, 5, 2), (3, 2, 2)]
    own, theirs = [features(3, *s) for s in shapes], [features(3, *s, seed=1) for s in shapes]
    want = np.mean([by_channel(a.numpy(), b.numpy()) for a, b in zip(own, theirs, strict=True)])
    assert loss("attention_channels", shapes, shapes)(own, theirs, targets(3)).item() == pytest.approx(want, rel=1e-12)


def test_opposite_channels_reach_the_largest_distance_that_the_weights_were_chosen_for() -> None:
    own = features(24, 32, 3, 3)
    value = loss("attention_channels", [(32, 3, 3)], [(32, 3, 3)])([own], [-own], targets(24))
    assert value.item() == pytest.approx((24 * 32 * 4) ** 0.5, rel=1e-12)


def test_channel_attention_refuses_another_architecture_by_its_shapes() -> None:
    with pytest.raises(ValueError, match=r"one architecture: .*\(4, 5, 5\).*\(4, 3, 3\)"):
        loss("attention_channels", [(4, 5, 5)], [(4, 3, 3)])


@pytest.mark.parametrize("name", ["attention", "attention_channels"])
@pytest.mark.parametrize("rows", [1, 3])
def test_an_equal_teacher_costs_nothing_and_pulls_nowhere(name: str, rows: int) -> None:
    own = features(rows, 4, 3, 3).requires_grad_()
    value = loss(name, [(4, 3, 3)], [(4, 3, 3)])([own], [own.detach()], targets(rows)).sum()
    value.backward()
    assert own.grad is not None
    assert (value.item(), own.grad.abs().max().item()) == (0, 0)


@pytest.mark.parametrize("name", ["attention", "attention_channels"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_channels_and_dead_maps_leave_gradients_small(name: str, dtype: torch.dtype) -> None:
    own, theirs = features(3, 4, 3, 3).to(dtype), features(3, 4, 3, 3, seed=1).to(dtype)
    own[0], own[1, 2], theirs[2, 1], theirs[0, 0] = 0, 0, 0, 0
    own.requires_grad_()
    value = loss(name, [(4, 3, 3)], [(4, 3, 3)])([own], [theirs], targets(3)).sum()
    value.backward()
    assert own.grad is not None
    assert 0 < value.item() < 10
    assert 0 < own.grad.abs().max().item() < 10


@pytest.mark.parametrize("name", ["attention", "attention_channels"])
def test_gradients_are_those_of_the_formula(name: str) -> None:
    own, theirs = features(2, 3, 2, 2).requires_grad_(), features(2, 3, 2, 2, seed=1)
    one = loss(name, [(3, 2, 2)], [(3, 2, 2)])
    assert torch.autograd.gradcheck(lambda x: one([x], [theirs], targets(2)), (own,))
