"""OFA's stage losses against an independent formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.feature_losses.registry import feature_loss
from models.feature_losses.stages import OneForAll
from models.losses.targets import Targets
from tests.models.feature_losses.given import features, targets, without_gradient

OWN = [features(4, 5, 3, 3), features(4, 6, seed=1)]
EPSILON, TEMPERATURE = 1.5, 2.0


def one_for_all(epsilon: float = EPSILON, temperature: float = TEMPERATURE) -> OneForAll:
    torch.manual_seed(4)
    shapes = [tuple(x.shape[1:]) for x in OWN]
    loss = feature_loss("ofa", shapes, [], classes=3, samples=0, temperature=temperature, epsilon=epsilon)
    assert isinstance(loss, OneForAll)
    return loss.double()


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_the_formula(loss: OneForAll, given: Targets, label: list[int]) -> np.ndarray:
    assert given.teacher_KBC is not None
    p_t = softmax(given.teacher_KBC.numpy() / TEMPERATURE).mean(0)
    one = np.array([[float(c == y) for c in range(3)] for y in label])
    total = np.zeros(len(label))
    for x, project in zip(OWN, loss.projectors, strict=True):
        weight, bias = (p.detach().numpy() for p in project.parameters())
        pooled = x.numpy() if x.ndim == 2 else x.numpy().mean(axis=(2, 3))
        p_s = softmax((pooled @ weight.T + bias) / TEMPERATURE)
        total -= (((p_t + one) ** EPSILON - one) * np.log(p_s)).sum(1)
    return total


def test_value_is_the_paper_s_added_over_stages_and_without_labels_where_there_are_none() -> None:
    loss, label = one_for_all(), [2, -1, 0, 1]
    given = targets(4, label_B=torch.tensor(label))
    value = loss(OWN, [], given).detach().numpy()
    np.testing.assert_allclose(value, by_the_formula(loss, given, label), rtol=1e-10)


def test_a_mixture_pays_both_labels_by_their_shares() -> None:
    loss, own, other, share = one_for_all(), [2, 1, 0, 1], [0, 0, -1, 2], [0.25, 0.5, 1.0, 0.9]
    given = targets(
        4,
        label_B=torch.tensor(own),
        partner_label_B=torch.tensor(other),
        share_B=torch.tensor(share, dtype=torch.float64),
    )
    first, second = by_the_formula(loss, given, own), by_the_formula(loss, given, other)
    expected = np.array(share) * first + (1 - np.array(share)) * second
    np.testing.assert_allclose(loss(OWN, [], given).detach().numpy(), expected, rtol=1e-10)


def test_with_exponent_one_labels_mean_nothing() -> None:
    loss = one_for_all(epsilon=1.0)
    unlabelled = targets(4, label_B=torch.full((4,), -1))
    torch.testing.assert_close(loss(OWN, [], targets(4)), loss(OWN, [], unlabelled))


def test_gradients_are_those_of_the_value() -> None:
    loss = one_for_all()
    inputs = [x.clone().requires_grad_() for x in OWN]
    assert torch.autograd.gradcheck(lambda *own: loss(list(own), [], targets(4)), inputs, fast_mode=True)


def test_every_stage_and_its_projector_learn() -> None:
    loss, own = one_for_all(), [x.clone().requires_grad_() for x in OWN]
    loss(own, [], targets(4)).sum().backward()
    assert without_gradient(loss) == []
    assert all(x.grad is not None and bool(x.grad.any()) for x in own)


def test_extreme_logits_and_zero_features_of_one_row_stay_finite() -> None:
    loss = one_for_all(temperature=1.0)
    own = [torch.zeros_like(x[:1]).requires_grad_() for x in OWN]
    sure = torch.tensor([[[1e4, 0.0, -1e4]]], dtype=torch.float64)
    value = loss(own, [], targets(1, teacher_KBC=sure))
    value.sum().backward()
    assert bool(value.isfinite().all())
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in own)


def test_without_teachers_it_is_refused() -> None:
    with pytest.raises(ValueError, match="ofa reads the teachers' logits"):
        one_for_all()(OWN, [], targets(4, teacher_KBC=None))


def test_a_resumed_training_goes_on_with_the_same_values() -> None:
    loss, again = one_for_all(), one_for_all()
    with torch.no_grad():
        for one in loss.parameters():
            one.mul_(1.1)
    assert not torch.equal(again(OWN, [], targets(4)), loss(OWN, [], targets(4)))
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again(OWN, [], targets(4)), loss(OWN, [], targets(4)))
