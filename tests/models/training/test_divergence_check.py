"""Divergence: what ends a training, and what must not."""

from __future__ import annotations

import math

from models.training.divergence_check import BEGINNING, MOST_SKIPPED, DivergenceCheck


def after_a_start(value: float = 2.0) -> DivergenceCheck:
    check = DivergenceCheck(scaled=False)
    assert not any(check.error(value, {"kl": value}, 1.0, ["kl"]) for _ in range(BEGINNING))
    return check


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    assert "norm of the gradient is inf" in DivergenceCheck(scaled=False).error(1.0, {}, math.inf, [])


def test_a_part_above_a_thousand_times_its_start_is_an_error() -> None:
    check = after_a_start()
    assert check.error(1.0, {"kl": 1999.0}, 1.0, ["kl"]) == ""
    assert check.error(1.0, {"kl": 2001.0}, 1.0, ["kl"]) == "the kl part of the loss is 2001, above 2000"


def test_small_losses_may_grow_to_usual_ones() -> None:
    assert after_a_start(1e-9).error(1.0, {"kl": 100.0}, 1.0, ["kl"]) == ""


def test_a_large_part_that_begins_late_is_no_error() -> None:
    check = after_a_start()
    assert check.error(1e6, {"kl": 2.0, "rkd": 1e6}, 1.0, ["kl", "rkd"]) == ""


def test_a_part_that_is_switched_off_is_not_checked() -> None:
    assert after_a_start().error(1.0, {"kl": 1e9}, 1.0, []) == ""


def test_batches_without_a_part_do_not_count_as_first_values() -> None:
    check = after_a_start(0.0)
    assert check.error(1e6, {"kl": 1e6}, 1.0, ["kl"]) == ""


def test_skipped_steps_must_follow_one_another_to_be_an_error() -> None:
    check = DivergenceCheck(scaled=True)
    for _ in range(MOST_SKIPPED - 1):
        assert check.error(1.0, {}, math.inf, []) == ""
    assert check.error(1.0, {}, 1.0, []) == ""
    assert check.error(1.0, {}, math.inf, []) == ""
