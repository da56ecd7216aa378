"""The feature term of a student that reuses its teacher's classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.feature_losses import feature_loss
from models.feature_losses.base import FeatureLoss
from tests.models.feature_losses.given import features, targets


def reuse(own: tuple[int, ...], theirs: tuple[int, ...]) -> FeatureLoss:
    return feature_loss("simkd", [own], [theirs], classes=3, samples=0, temperature=1.0, factor=2)


def test_value_is_the_mean_squared_error_of_each_sample() -> None:
    own, theirs = features(3, 4, 2, 2), features(3, 4, 2, 2, seed=1)
    value = reuse((4, 2, 2), (4, 2, 2))([own], [theirs], targets(3))
    np.testing.assert_allclose(value.numpy(), ((own - theirs).numpy() ** 2).reshape(3, -1).mean(1), rtol=1e-12)


@pytest.mark.parametrize("student_is_larger", [True, False])
def test_maps_are_compared_at_the_smaller_size(student_is_larger: bool) -> None:
    large, small = features(2, 4, 4, 4), features(2, 4, 2, 2, seed=1)
    pair = (large, small) if student_is_larger else (small, large)
    value = reuse(tuple(pair[0].shape[1:]), tuple(pair[1].shape[1:]))([pair[0]], [pair[1]], targets(2))
    averaged = large.numpy().reshape(2, 4, 2, 2, 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(value.numpy(), ((averaged - small.numpy()) ** 2).mean(axis=(1, 2, 3)), rtol=1e-12)


def test_a_vector_meets_a_map_at_its_mean() -> None:
    own, theirs = features(1, 4, 3, 3), features(1, 4, seed=1)
    value = reuse((4, 3, 3), (4,))([own], [theirs], targets(1))
    expected = ((own.numpy().mean(axis=(2, 3)) - theirs.numpy()) ** 2).mean(1)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)


def test_equal_features_cost_nothing() -> None:
    own = features(2, 4, 2, 2).requires_grad_()
    value = reuse((4, 2, 2), (4, 2, 2))([own], [own.detach()], targets(2))
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert own.grad is not None
    assert not bool(own.grad.any())


def test_gradients_are_those_of_the_value() -> None:
    loss = reuse((4, 4, 4), (4, 2, 2))
    own, theirs = features(2, 4, 4, 4).requires_grad_(), features(2, 4, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss([x], [theirs], targets(2)), (own,))


def test_other_channels_ask_for_a_graft() -> None:
    with pytest.raises(ValueError, match=r"120 channels of the student with 1280 of the teacher.*graft of width 1280"):
        reuse((120, 7, 7), (1280, 7, 7))
