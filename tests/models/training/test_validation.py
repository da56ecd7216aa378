"""Decisions by validation: reductions of the learning rate, early stopping, the resulting weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from models.training.config import TrainConfig
from tests.models.training.nets import batches, trainer


def answers(values: Sequence[float]) -> Callable[[dict[str, torch.Tensor]], dict[str, float]]:
    left = iter(values)
    return lambda weights: {"kappa": next(left)}


def test_metrics_stand_in_the_log_of_their_step() -> None:
    logs: dict[int, dict[str, float]] = {}
    made = trainer(TrainConfig(steps=20, lr=0.05, validations=3, log_every=10))
    made.fit(
        batches(),
        validate=answers([0.1, 0.2, 0.3]),
        on_log=lambda step, means, throughput: logs.update({step: dict(means)}),
    )
    assert {step: means.get("kappa") for step, means in logs.items()} == {7: 0.1, 10: None, 13: 0.2, 20: 0.3}


def test_the_best_weights_are_kept() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    values = iter([0.2, 0.9, math.nan, 0.5])

    def validate(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        seen.append(weights)
        return {"kappa": next(values)}

    made = trainer(TrainConfig(steps=20, lr=0.05, validations=4, keep="best"))
    made.fit(batches(), validate=validate, metric="kappa")
    assert all(torch.equal(value, seen[1][name]) for name, value in made.weights().items())
    assert not torch.equal(seen[1]["0.weight"], seen[3]["0.weight"])


def test_the_last_weights_are_kept_unless_the_best_are_asked_for() -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def validate(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        seen.append(weights)
        return {"kappa": -float(len(seen))}

    made = trainer(TrainConfig(steps=20, lr=0.05, validations=4))
    made.fit(batches(), validate=validate, metric="kappa")
    assert all(torch.equal(value, seen[3][name]) for name, value in made.weights().items())


def test_a_training_ends_early_when_nothing_gets_better() -> None:
    made = trainer(TrainConfig(steps=20, lr=0.05, validations=10, early_stop=3))
    made.fit(batches(), validate=answers([0.5, 0.6, 0.6, 0.4, 0.5]), metric="kappa")
    assert made.step == 10


def test_lower_may_be_better() -> None:
    made = trainer(TrainConfig(steps=20, lr=0.05, validations=5, early_stop=2, higher_is_better=False))
    made.fit(batches(), validate=answers([5.0, 4.0, 3.0, 2.0, 1.0]), metric="kappa")
    assert made.step == 20


def test_the_rate_falls_on_a_plateau() -> None:
    rates: list[float] = []
    config = TrainConfig(
        steps=20, lr=1e-2, warmup=0.0, schedule="plateau", validations=10, patience=2, factor=0.5, early_stop=9
    )
    trainer(config).fit(
        batches(),
        validate=answers([0.5] * 5 + [0.6] * 5),
        metric="kappa",
        on_step=lambda step, values: rates.append(values["lr"]),
    )
    # Best at 2 and 12; two validations later, at 6, 10, 16 and 20, it falls.
    assert rates == pytest.approx([1e-2] * 6 + [5e-3] * 4 + [2.5e-3] * 6 + [1.25e-3] * 4)


def test_without_validation_images_the_last_weights_are_kept() -> None:
    made = trainer(TrainConfig(steps=20, lr=0.05, keep="best", early_stop=1, ema_share=0.5))
    made.fit(batches(), validate=lambda weights: {}, metric="kappa")
    assert made.step == 20
    assert not torch.equal(made.weights()["0.weight"], made.student.state_dict()["0.weight"])


def test_a_metric_that_no_validation_tells_of_is_an_error() -> None:
    made = trainer(TrainConfig(steps=20, lr=0.05, keep="best"))
    with pytest.raises(ValueError, match="does not return 'auc'; it returns kappa"):
        made.fit(batches(), validate=answers([0.5]), metric="auc")


def test_best_weights_without_a_metric_are_an_error() -> None:
    with pytest.raises(ValueError, match="need a validation and a metric of it; give both"):
        trainer(TrainConfig(steps=20, lr=0.05, keep="best")).fit(batches())
