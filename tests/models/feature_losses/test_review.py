"""Knowledge review against an independent formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.feature_losses.registry import feature_loss
from models.feature_losses.stages import Review, context_loss
from tests.models.feature_losses.given import features, targets, without_gradient

WIDTH = 4
OWN = [features(2, 3, 4, 4), features(2, 5, 2, 2, seed=1)]
THEIRS = [features(2, 6, 8, 8, seed=2), features(2, 7, 4, 4, seed=3)]


def review(own: list[torch.Tensor], theirs: list[torch.Tensor]) -> Review:
    torch.manual_seed(4)
    shapes = [[tuple(x.shape[1:]) for x in side] for side in (own, theirs)]
    loss = feature_loss("review", *shapes, classes=3, samples=0, temperature=1.0, width=WIDTH)
    assert isinstance(loss, Review)
    return loss.double()


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    pad = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    out = np.einsum("nchwij,ocij->nohw", windows, weight)
    return out if bias is None else out + bias[:, None, None]


def doubled(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, axis=2).repeat(2, axis=3)


def context(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Weights halve with every average that is smaller than the map."""
    total, weights, weight = ((a - b) ** 2).mean(axis=(1, 2, 3)), 1.0, 1.0
    for pool in (4, 2, 1):
        if pool < a.shape[2]:
            weight /= 2
            step = a.shape[2] // pool
            mean = (a - b).reshape(*a.shape[:2], pool, step, pool, step).mean(axis=(3, 5))
            total, weights = total + weight * (mean**2).mean(axis=(1, 2, 3)), weights + weight
    return total / weights


def test_value_is_the_paper_s() -> None:
    loss = review(OWN, THEIRS).eval()
    deep, shallow = ({name: one.numpy() for name, one in f.state_dict().items()} for f in loss.fusions)
    scale = 1 / np.sqrt(1 + 1e-5)  # batch norm that has seen nothing
    shallow_own, deep_own = (x.numpy() for x in OWN)

    first = convolved(deep_own, deep["narrow.0.weight"]) * scale
    fused_deep = convolved(doubled(first), deep["widen.0.weight"]) * scale

    here = convolved(shallow_own, shallow["narrow.0.weight"]) * scale
    below = doubled(first)
    logits = convolved(np.concatenate([here, below], axis=1), shallow["attend.0.weight"], shallow["attend.0.bias"])
    share = 1 / (1 + np.exp(-logits))
    mixed = here * share[:, :1] + below * share[:, 1:]
    fused_shallow = convolved(doubled(mixed), shallow["widen.0.weight"]) * scale

    expected = context(fused_deep, THEIRS[1].numpy()) + context(fused_shallow, THEIRS[0].numpy())
    np.testing.assert_allclose(loss(OWN, THEIRS, targets(2)).detach().numpy(), expected, rtol=1e-10)


def test_differences_that_average_out_count_at_the_full_map_alone() -> None:
    checkers = torch.ones(1, 2, 8, 8, dtype=torch.float64)
    checkers[..., ::2, 1::2] = checkers[..., 1::2, ::2] = -1
    assert context_loss(checkers, torch.zeros_like(checkers)).item() == pytest.approx(1 / (1 + 1 / 2 + 1 / 4 + 1 / 8))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_a_constant_difference_counts_as_its_square_whatever_the_size(side: int) -> None:
    own = features(2, 3, side, side)
    torch.testing.assert_close(context_loss(own + 3, own), torch.full((2,), 9.0, dtype=torch.float64))
    assert context_loss(own, own).tolist() == [0, 0]


def test_gradients_are_those_of_the_value() -> None:
    loss = review(OWN, THEIRS)
    inputs = [x.clone().requires_grad_() for x in OWN]
    assert torch.autograd.gradcheck(lambda *own: loss(list(own), THEIRS, targets(2)), inputs, fast_mode=True)


def test_every_parameter_learns() -> None:
    loss = review(OWN, THEIRS)
    loss(OWN, THEIRS, targets(2)).sum().backward()
    assert without_gradient(loss) == []


def test_the_last_stages_are_paired_where_their_numbers_differ() -> None:
    own = [features(2, 8, 8, 8).requires_grad_(), *(x.clone().requires_grad_() for x in OWN)]
    loss = review(own, THEIRS)
    loss(own, THEIRS, targets(2)).sum().backward()
    assert [x.grad is not None for x in own] == [False, True, True]


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_one_row_of_one_position_stays_finite(scale: float) -> None:
    own = [features(1, 3, 2, 2) * scale, features(1, 5) * scale]
    own = [x.requires_grad_() for x in own]
    theirs = [features(1, 6, 1, 1), features(1, 7)]
    value = review(own, theirs)(own, theirs, targets(1))
    value.sum().backward()
    assert value.shape == (1,)
    assert bool(value.isfinite().all())
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in own)


def test_a_resumed_training_goes_on_with_the_same_values() -> None:
    loss, again = review(OWN, THEIRS), review(OWN, THEIRS)
    with torch.no_grad():
        for one in loss.parameters():
            one.mul_(1.1)
    loss(OWN, THEIRS, targets(2))
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again.eval()(OWN, THEIRS, targets(2)), loss.eval()(OWN, THEIRS, targets(2)))
