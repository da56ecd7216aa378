"""The trainer: it learns, it resumes to the same bits, it stops when the loss is no number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from models.losses import Objective, Targets
from models.terms import Term
from models.training import Batch, DivergedError, TrainConfig, Trainer, learning_rate

CONFIG = TrainConfig(steps=20, lr=0.05, checkpoint_every=8, log_every=10)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 2)
    )


def batches(start: int, stop: int = 20, spoil: int = -1) -> Iterator[Batch]:
    for step in range(start, stop):
        random = torch.Generator().manual_seed(step)
        label = torch.randint(0, 2, (8,), generator=random)
        x = torch.randn(8, 3, 8, 8, generator=random) + 2.0 * label[:, None, None, None]
        if step == spoil:
            x[0] = float("nan")
        nobody = torch.zeros(8, dtype=torch.bool)
        yield Batch(x, Targets(label, None, None, nobody, torch.ones(8)), [f"key{step}-{i}" for i in range(8)])


def trainer(config: TrainConfig = CONFIG) -> Trainer:
    made = Trainer(network(), Objective([Term("cross_entropy")]), config)
    torch.manual_seed(1)
    return made


def test_the_loss_falls() -> None:
    seen: list[float] = []
    config = TrainConfig(steps=20, lr=0.05, log_every=1)
    trainer(config).fit(batches(0), on_log=lambda step, means: seen.append(means["loss"]))
    assert max(seen[-5:]) < 0.7 * seen[0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_with_the_same_bits(optimizer: str) -> None:
    config = TrainConfig(steps=20, lr=0.05, checkpoint_every=8, optimizer=optimizer)
    saved: dict[int, bytes] = {}
    undisturbed = trainer(config)
    undisturbed.fit(batches(0), on_checkpoint=saved.__setitem__)
    resumed = trainer(config)
    resumed.resume(saved[16])
    resumed.fit(batches(16))
    ours, theirs = resumed.weights(), undisturbed.weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_resumed_run_logs_what_an_undisturbed_one_logs() -> None:
    saved: dict[int, bytes] = {}
    whole: list[tuple[int, dict[str, float]]] = []
    trainer().fit(batches(0), on_checkpoint=saved.__setitem__, on_log=lambda *row: whole.append(row))
    late: list[tuple[int, dict[str, float]]] = []
    resumed = trainer()
    resumed.resume(saved[16])
    resumed.fit(batches(16), on_log=lambda *row: late.append(row))
    assert late == whole[-1:]


def test_no_checkpoint_is_left_for_the_last_step() -> None:
    saved: dict[int, bytes] = {}
    trainer().fit(batches(0), on_checkpoint=saved.__setitem__)
    assert sorted(saved) == [8, 16]


def test_a_loss_that_is_no_number_names_the_keys() -> None:
    with pytest.raises(DivergedError, match="at step 5; the batch holds key5-0"):
        trainer().fit(batches(0, spoil=5))


def test_data_that_ends_early_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended at step 7 of 20"):
        trainer().fit(batches(0, 7))


def test_the_average_differs_from_the_last_weights() -> None:
    made = trainer()
    made.fit(batches(0))
    assert not torch.equal(made.weights()["0.weight"], made.model.state_dict()["0.weight"])


def test_without_an_average_the_last_weights_are_kept() -> None:
    made = trainer(TrainConfig(steps=20, lr=0.05, ema=None))
    made.fit(batches(0))
    assert torch.equal(made.weights()["0.weight"], made.model.state_dict()["0.weight"])


def test_the_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert max(rates) == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.0)
