"""FitNets, variational distillation and SimKD against their formulas, for features of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.registry import feature_loss
from tests.models.feature_losses.given import features, targets, without_gradient

PAIRS: list[tuple[Shape, Shape]] = [
    ((3, 4, 4), (5, 4, 4)),
    ((3, 8, 6), (5, 4, 4)),  # averaged down
    ((3, 2, 2), (5, 4, 4)),  # interpolated
    ((3, 8, 2), (5, 4, 4)),
    ((3,), (5,)),
    ((3,), (5, 4, 4)),
    ((3, 4, 4), (5,)),
]


def loss(name: str, own: list[Shape], theirs: list[Shape], **options: object) -> FeatureLoss:
    torch.manual_seed(0)
    return feature_loss(name, own, theirs, classes=3, samples=9, temperature=1.0, **options).double()


def regressed(one: FeatureLoss, own: np.ndarray) -> np.ndarray:
    """What the convolutions of the first regressor make of [N, D, H, W], in numpy."""
    regressor = one.regressors[0]
    layers = [regressor] if isinstance(regressor, nn.Conv2d) else list(regressor)
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            own = np.maximum(own, 0)
            continue
        weight, bias = layer.weight.detach().numpy()[:, :, 0, 0], layer.bias.detach().numpy()
        own = np.einsum("oc,nchw->nohw", weight, own) + bias[:, None, None]
    return own


def test_a_hint_is_the_mean_squared_error_of_regressed_features() -> None:
    own, theirs = features(2, 3, 4, 4), features(2, 5, 4, 4, seed=1)
    one = loss("fitnets", [(3, 4, 4)], [(5, 4, 4)])
    want = ((regressed(one, own.numpy()) - theirs.numpy()) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(one([own], [theirs], targets(2)).detach(), want, rtol=1e-12)


def test_a_hint_equal_to_the_teachers_features_has_no_loss() -> None:
    one = loss("fitnets", [(3, 4, 4)], [(3, 4, 4)])
    nn.init.dirac_(one.regressors[0].weight)
    nn.init.zeros_(one.regressors[0].bias)
    same = features(2, 3, 4, 4)
    assert one([same], [same], targets(2)).tolist() == [0, 0]


def test_variational_is_the_gaussian_likelihood_without_its_constant() -> None:
    own, theirs = features(2, 3, 4, 4), features(2, 5, 4, 4, seed=1)
    one = loss("vid", [(3, 4, 4)], [(5, 4, 4)], variance=2.0)
    with torch.no_grad():
        one.rhos[0].copy_(torch.linspace(-3, 3, 5))
    variance = (np.log1p(np.exp(np.linspace(-3, 3, 5, dtype=np.float32))) + 1e-5)[:, None, None]
    gap = (regressed(one, own.numpy()) - theirs.numpy()) ** 2
    want = (0.5 * (gap / variance + np.log(variance))).mean((1, 2, 3))
    np.testing.assert_allclose(one([own], [theirs], targets(2)).detach(), want, rtol=1e-6)


@pytest.mark.parametrize("variance", [0.01, 5.0, 800.0])
def test_variational_begins_with_the_variance_it_is_given(variance: float) -> None:
    one = loss("vid", [(3, 2, 2)], [(5, 2, 2)], variance=variance)
    own = theirs = torch.zeros(1, 5, 2, 2, dtype=torch.float64)
    last = one.regressors[0][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    found = one([own[:, :3]], [theirs], targets(1)).item()
    assert found == pytest.approx(0.5 * np.log(variance), rel=1e-5)


def test_variational_refuses_a_variance_that_it_cannot_begin_with() -> None:
    with pytest.raises(ValueError, match="must be above"):
        loss("vid", [(3, 2, 2)], [(5, 2, 2)], variance=0.0)


@pytest.mark.parametrize("name", ["fitnets", "vid"])
@pytest.mark.parametrize(("own", "theirs"), PAIRS)
def test_any_features_can_be_compared_and_reach_every_parameter(name: str, own: Shape, theirs: Shape) -> None:
    one = loss(name, [own], [theirs])
    ours = features(3, *own).requires_grad_()
    value_N = one([ours], [features(3, *theirs, seed=1)], targets(3))
    assert value_N.shape == (3,)
    value_N.sum().backward()
    assert ours.grad is not None
    assert bool(ours.grad.abs().sum() > 0)
    assert without_gradient(one) == []


def test_a_larger_map_is_averaged_to_the_teachers_size() -> None:
    own, theirs = features(2, 3, 4, 4), features(2, 5, 2, 2, seed=1)
    one = loss("fitnets", [(3, 4, 4)], [(5, 2, 2)])
    small = own.reshape(2, 3, 2, 2, 2, 2).mean((3, 5))
    assert torch.allclose(one([own], [theirs], targets(2)), one([small], [theirs], targets(2)))


@pytest.mark.parametrize("name", ["fitnets", "vid"])
def test_the_loss_of_a_sample_depends_on_that_sample_only(name: str) -> None:
    one = loss(name, [(3, 4, 4)], [(5, 2, 2)])
    own, theirs = features(3, 3, 4, 4), features(3, 5, 2, 2, seed=1)
    whole = one([own], [theirs], targets(3))
    alone = [one([own[i : i + 1]], [theirs[i : i + 1]], targets(1)).item() for i in range(3)]
    np.testing.assert_allclose(whole.detach(), alone, rtol=1e-12)


@pytest.mark.parametrize("name", ["fitnets", "vid"])
def test_several_taps_are_summed_from_the_deepest_on(name: str) -> None:
    own, theirs = [features(2, 4), features(2, 3), features(2, 2)], [features(2, 5, seed=1), features(2, 6, seed=2)]
    one = loss(name, [(4,), (3,), (2,)], [(5,), (6,)])
    parts = []
    for i in range(2):
        part = loss(name, [tuple(own[i + 1].shape[1:])], [tuple(theirs[i].shape[1:])])
        part.regressors[0].load_state_dict(one.regressors[i].state_dict())
        parts.append(part([own[i + 1]], [theirs[i]], targets(2)))
    assert torch.allclose(one(own, theirs, targets(2)), parts[0] + parts[1])


@pytest.mark.parametrize("name", ["fitnets", "vid"])
def test_gradients_are_those_of_the_formula(name: str) -> None:
    one = loss(name, [(2, 3, 3)], [(3, 2, 2)])
    own, theirs = features(2, 2, 3, 3).requires_grad_(), features(2, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: one([x], [theirs], targets(2)), (own,))


def reuse(own: tuple[int, ...], theirs: tuple[int, ...]) -> FeatureLoss:
    return feature_loss("simkd", [own], [theirs], classes=3, samples=0, temperature=1.0, factor=2)


def test_reuse_value_is_the_mean_squared_error_of_each_sample() -> None:
    own, theirs = features(3, 4, 2, 2), features(3, 4, 2, 2, seed=1)
    value = reuse((4, 2, 2), (4, 2, 2))([own], [theirs], targets(3))
    np.testing.assert_allclose(value.numpy(), ((own - theirs).numpy() ** 2).reshape(3, -1).mean(1), rtol=1e-12)


@pytest.mark.parametrize("student_is_larger", [True, False])
def test_reuse_maps_are_compared_at_the_smaller_size(student_is_larger: bool) -> None:
    large, small = features(2, 4, 4, 4), features(2, 4, 2, 2, seed=1)
    pair = (large, small) if student_is_larger else (small, large)
    value = reuse(tuple(pair[0].shape[1:]), tuple(pair[1].shape[1:]))([pair[0]], [pair[1]], targets(2))
    averaged = large.numpy().reshape(2, 4, 2, 2, 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(value.numpy(), ((averaged - small.numpy()) ** 2).mean(axis=(1, 2, 3)), rtol=1e-12)


def test_reuse_a_vector_meets_a_map_at_its_mean() -> None:
    own, theirs = features(1, 4, 3, 3), features(1, 4, seed=1)
    value = reuse((4, 3, 3), (4,))([own], [theirs], targets(1))
    expected = ((own.numpy().mean(axis=(2, 3)) - theirs.numpy()) ** 2).mean(1)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)


def test_reuse_equal_features_cost_nothing() -> None:
    own = features(2, 4, 2, 2).requires_grad_()
    value = reuse((4, 2, 2), (4, 2, 2))([own], [own.detach()], targets(2))
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert own.grad is not None
    assert not bool(own.grad.any())


def test_reuse_gradients_are_those_of_the_value() -> None:
    loss = reuse((4, 4, 4), (4, 2, 2))
    own, theirs = features(2, 4, 4, 4).requires_grad_(), features(2, 4, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss([x], [theirs], targets(2)), (own,))


def test_reuse_of_other_channels_needs_a_graft() -> None:
    with pytest.raises(ValueError, match=r"120 channels of the student with 1280 of the teacher.*graft of width 1280"):
        reuse((120, 7, 7), (1280, 7, 7))
