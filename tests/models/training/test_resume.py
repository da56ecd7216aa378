"""A run that resumes from a checkpoint ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.losses.terms import Term
from models.networks.taps import Taps
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective, Setting
from models.training.trainer import Trainer
from tests.models.training.nets import ON_LABELS, STEPS, batch, batches, network, same, trainer


def everything(**values: object) -> TrainConfig:
    return TrainConfig(
        **{  # type: ignore[arg-type]
            "steps": STEPS,
            "lr": 0.05,
            "schedule": "plateau",
            "patience": 1,
            "validations": 10,
            "keep": "best",
            "early_stop": 9,
            "accumulate": 2,
            "clip_value": 0.5,
            "ema_share": 0.5,
            "checkpoint_every": 8,
            "log_every": 5,
            **values,
        }
    )


def full_trainer(config: TrainConfig) -> Trainer:
    """Dropout, a memory bank, projectors, a rescaled term and one that begins late."""
    student = network()
    taps = ("3",)
    terms = [
        ON_LABELS,
        Term("kl", start=0.5, ramp=0.3),
        Term("crd", student_taps=taps, teacher_taps=("pooled",), rescale=True, options={"width": 4, "negatives": 5}),
    ]
    setting = Setting(
        classes=2, samples=STEPS * 8, student={"3": (144,)}, teachers=({"pooled": (6,)},), names=("teacher",)
    )
    made = Trainer(student, Objective(terms, setting), config, taps=Taps(student, taps))
    torch.manual_seed(1)
    return made


def loaded(made: Trainer) -> Any:
    return torch.load(io.BytesIO(made.state()), weights_only=True)


def equal(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same, bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def wavering() -> Callable[[dict[str, torch.Tensor]], dict[str, float]]:
    """A metric that depends on the weights alone and goes up and down."""
    return lambda weights: {"kappa": float(weights["0.weight"].sum().sin())}


def run(made: Trainer, data: Iterator[Batch], saved: dict[int, bytes] | None = None) -> list[object]:
    """Train to the end; everything that the training logged."""
    logged: list[object] = []
    made.fit(
        data,
        on_log=lambda step, means, throughput: logged.append((step, means)),
        on_checkpoint=None if saved is None else saved.__setitem__,
        validate=wavering(),
        metric="kappa",
    )
    return logged


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_resumed_run_ends_with_the_same_bits(optimizer: str, precision: str) -> None:
    config = everything(optimizer=optimizer, precision=precision)
    saved: dict[int, bytes] = {}
    undisturbed = full_trainer(config)
    run(undisturbed, batches(), saved)
    resumed = full_trainer(config)
    resumed.resume(saved[8])
    run(resumed, batches(8))
    assert same(resumed, undisturbed)
    assert equal(loaded(resumed), loaded(undisturbed))


def test_a_resumed_run_logs_what_an_undisturbed_one_logs() -> None:
    saved: dict[int, bytes] = {}
    whole = run(full_trainer(everything()), batches(), saved)
    resumed = full_trainer(everything())
    resumed.resume(saved[8])
    late = run(resumed, batches(8))
    assert late == whole[-len(late) :]
    assert len(late) >= 7


def test_a_run_that_is_killed_after_every_step_ends_with_the_same_bits() -> None:
    undisturbed = full_trainer(everything())
    run(undisturbed, batches())
    states: list[bytes] = []
    for step in range(STEPS):
        made = full_trainer(everything(checkpoint_every=1))
        if states:
            made.resume(states[-1])
        with pytest.raises(RuntimeError, match="the data ended"):
            made.fit(
                iter([batch(step)] if step < STEPS - 1 else []),
                on_checkpoint=lambda step, state: states.append(state),
                validate=wavering(),
                metric="kappa",
            )
    last = full_trainer(everything())
    last.resume(states[-1])
    run(last, batches(STEPS - 1))
    assert same(last, undisturbed)


def test_a_divergence_is_noticed_as_if_nothing_had_happened() -> None:
    student = network(norm=False)
    config = TrainConfig(steps=40, lr=0.01, checkpoint_every=22)
    saved: dict[int, bytes] = {}
    trainer(config, student=student).fit(batches(0, 40), on_checkpoint=saved.__setitem__)
    resumed = trainer(config, student=network(norm=False))
    resumed.resume(saved[22])
    wild = batch(22)
    wild.x_B3HW[:] *= 1e9
    wild = replace(wild, targets=replace(wild.targets, label_B=torch.arange(8) % 2))
    with pytest.raises(ValueError, match="in step 23"):
        resumed.fit(itertools.chain([wild], batches(23, 40)))
