"""The learning rate, the steps of validations and the averaged weights."""

from __future__ import annotations

import pytest
from torch import nn

from models.training.config import TrainConfig
from models.training.optimization import WeightAverage, average_decay, learning_rate, validation_steps


def test_the_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert max(rates) == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.0)


def test_steps_fall_at_their_shares() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=0.0, schedule="step", step_at=(0.07, 0.5), factor=0.1)
    rates = [learning_rate(step, config) for step in (0, 6, 7, 49, 50, 99)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_plateau_reduces_the_rate_once_each_time() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=0.0, schedule="plateau", factor=0.5)
    assert [learning_rate(10, config, reductions) for reductions in (0, 1, 2)] == [1.0, 0.5, 0.25]


def test_a_constant_rate_is_warmed_up_too() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=0.01, schedule="constant")
    assert [learning_rate(step, config) for step in (0, 1, 99)] == [0.5, 1.0, 1.0]


def test_an_unknown_schedule_is_an_error() -> None:
    with pytest.raises(ValueError, match="no schedule 'linear'"):
        learning_rate(99, TrainConfig(steps=100, lr=1.0, schedule="linear"))


@pytest.mark.parametrize(("steps", "count", "expected"), [(10, 3, {3, 7, 10}), (2, 5, {1, 2}), (20, 1, {20})])
def test_validations_are_spread_evenly(steps: int, count: int, expected: set[int]) -> None:
    # round() goes to the even neighbour: of 0.4, 0.8, 1.2, 1.6 and 2.0 two steps remain.
    assert validation_steps(TrainConfig(steps=steps, lr=1.0, validations=count)) == expected


@pytest.mark.parametrize("steps", [200, 2000, 20_000])
def test_averaged_weights_lag_by_a_share_of_the_training(steps: int) -> None:
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, average_decay(TrainConfig(steps=steps, lr=1.0, ema_share=0.05)) or 0.0)
    for step in range(1, steps + 1):
        network.weight.data.fill_(step / steps)
        average.update(step)
    assert 1 - float(average.weights()["weight"]) == pytest.approx(0.05, rel=0.15)


@pytest.mark.parametrize(("share", "steps", "decay"), [(0.05, 2000, 0.99), (0.05, 10, 0.0), (None, 10, None)])
def test_the_decay_follows_the_steps(share: float | None, steps: int, decay: float | None) -> None:
    assert average_decay(TrainConfig(steps=steps, lr=1.0, ema_share=share)) == pytest.approx(decay)
