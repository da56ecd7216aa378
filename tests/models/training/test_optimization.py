"""The learning rate and the steps of validations."""

from __future__ import annotations

import pytest

from models.training.config import TrainConfig
from models.training.optimization import learning_rate, validation_steps


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
