"""The trainer: training, accumulation, logs, divergence."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.losses.terms import Term
from models.training.config import DivergedError, PreemptedError, TrainConfig
from tests.models.training.nets import ON_LABELS, STEPS, batch, batches, network, same, spoilt, trainer


def config(**values: object) -> TrainConfig:
    return TrainConfig(**{"steps": STEPS, "lr": 0.05, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 0.05), ("adam", 0.05), ("sgd", 0.05)])
def test_the_loss_falls(optimizer: str, lr: float) -> None:
    seen: list[float] = []
    made = trainer(config(lr=lr, optimizer=optimizer))
    made.fit(batches(), on_step=lambda step, values: seen.append(values["loss"]))
    assert max(seen[-5:]) < 0.7 * seen[0]


def test_decay_shrinks_matrices_and_leaves_the_rest() -> None:
    made = trainer(config(optimizer="adamw", weight_decay=0.5, ema_share=None, lr=0.1))
    matrices = [g for g in made._stepper._optimizer.param_groups if g["weight_decay"]]
    assert [p.ndim for g in matrices for p in g["params"]] == [4, 2]


def test_a_batch_in_parts_gives_the_gradient_of_the_whole() -> None:
    terms = [ON_LABELS, Term("kl", where="unlabelled")]
    whole = trainer(config(optimizer="sgd"), terms, network(norm=False, dropout=0.0))
    parts = trainer(config(optimizer="sgd", accumulate=3), terms, network(norm=False, dropout=0.0))
    losses: list[float] = []
    whole.fit(batches(), on_step=lambda step, values: losses.append(values["loss"]))
    parted: list[float] = []
    parts.fit(batches(), on_step=lambda step, values: parted.append(values["loss"]))
    assert parted == pytest.approx(losses, rel=1e-4)
    for name, value in whole.weights().items():
        assert torch.allclose(parts.weights()[name], value, atol=1e-5), name


def test_frozen_parts_and_their_statistics_do_not_move() -> None:
    student = network()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    made = trainer(config(freeze=("0", "1")), student=student)
    made.fit(batches())
    moved = {name for name, value in made.weights().items() if not torch.equal(value, before[name])}
    assert moved == {"5.weight", "5.bias"}


def test_a_prefix_to_freeze_that_is_not_there_names_the_parts() -> None:
    with pytest.raises(ValueError, match="nothing to freeze at 'stem'; the network's parts are 0, 1, 2"):
        trainer(config(freeze=("stem",)))


def test_a_network_that_is_all_frozen_is_an_error() -> None:
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        trainer(config(freeze=("0", "1", "5")))


def test_a_gradient_is_clipped_by_value() -> None:
    student = network(norm=False)
    made = trainer(
        config(steps=1, optimizer="sgd", weight_decay=0.0, warmup=0.0, clip=None, clip_value=1e-4, ema_share=None),
        student=student,
    )
    before = made.weights()
    made.fit(batches())
    moved = max(float((value - before[name]).abs().max()) for name, value in made.weights().items())
    # The first step of Nesterov's momentum goes 1.9 gradients.
    assert 0 < moved <= 1.9e-4 * 0.05 * 1.001


def test_the_average_differs_from_the_last_weights() -> None:
    made = trainer(config(ema_share=0.5))
    made.fit(batches())
    assert not torch.equal(made.weights()["0.weight"], made.student.state_dict()["0.weight"])


def test_without_an_average_the_last_weights_are_kept() -> None:
    made = trainer(config(ema_share=None))
    made.fit(batches())
    assert torch.equal(made.weights()["0.weight"], made.student.state_dict()["0.weight"])


def test_weights_are_a_copy() -> None:
    made = trainer(config(ema_share=None))
    kept = made.weights()
    made.fit(batches())
    assert not torch.equal(kept["0.weight"], made.weights()["0.weight"])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_ends_near_full_precision(precision: str) -> None:
    full, low = trainer(config(ema_share=None)), trainer(config(ema_share=None, precision=precision))
    losses: dict[str, float] = {}
    full.fit(batches(), on_log=lambda step, means, throughput: losses.update(full=means["loss"]))
    low.fit(batches(), on_log=lambda step, means, throughput: losses.update(low=means["loss"]))
    assert losses["low"] == pytest.approx(losses["full"], rel=0.1)
    assert low.weights()["0.weight"].dtype == torch.float32


def test_logs_and_checkpoints_change_nothing() -> None:
    often = trainer(config(log_every=1, checkpoint_every=1))
    often.fit(batches(), on_log=lambda *row: None, on_checkpoint=lambda step, state: None)
    never = trainer(config(log_every=99))
    never.fit(batches())
    assert same(often, never)


def test_the_mean_of_a_log_is_that_of_its_steps() -> None:
    steps: list[float] = []
    logs: dict[int, float] = {}
    made = trainer(config(log_every=8))
    made.fit(
        batches(),
        on_step=lambda step, values: steps.append(values["cross_entropy"]),
        on_log=lambda step, means, throughput: logs.update({step: means["cross_entropy"]}),
    )
    assert logs == pytest.approx({8: sum(steps[:8]) / 8, 16: sum(steps[8:16]) / 8, 20: sum(steps[16:]) / 4})


def test_numbers_that_are_read_late_are_the_same() -> None:
    """As on an accelerator, where each of them would be waited for."""
    logged: list[list[object]] = []
    for late in (1, 16):
        made, rows = trainer(config(log_every=6)), []
        made._read_back_steps = late
        made.fit(
            batches(),
            on_step=lambda step, values, rows=rows: rows.append((step, values)),  # type: ignore[misc]
            on_log=lambda step, means, throughput, rows=rows: rows.append((step, means)),  # type: ignore[misc]
        )
        logged.append(rows)
    assert logged[0] == logged[1]
    assert len(logged[0]) == STEPS + 4


def test_a_divergence_that_is_read_late_names_its_own_batch() -> None:
    made = trainer(config())
    made._read_back_steps = 16
    with pytest.raises(DivergedError, match="in step 6; the batch holds key5-0"):
        made.fit(spoilt(5, float("nan")))
    assert made.step == 16


def test_a_log_has_the_throughput() -> None:
    rates: list[dict[str, float]] = []
    trainer(config()).fit(batches(), on_log=lambda step, means, throughput: rates.append(throughput))
    assert rates[0]["images_per_second"] > 0
    assert 0 < rates[0]["waiting"] < 1


def test_no_checkpoint_is_left_for_the_last_step() -> None:
    saved: dict[int, bytes] = {}
    trainer(config(checkpoint_every=10)).fit(batches(), on_checkpoint=saved.__setitem__)
    assert sorted(saved) == [10]


def test_a_preempted_training_has_its_last_step_in_a_checkpoint() -> None:
    saved: dict[int, bytes] = {}
    made = trainer(config())
    with pytest.raises(PreemptedError, match="after step 7 of 20"):
        made.fit(batches(), on_checkpoint=saved.__setitem__, preempted=lambda: made.step == 7)
    assert sorted(saved) == [7]


def test_a_preemption_after_the_last_step_changes_nothing() -> None:
    made = trainer(config())
    made.fit(batches(), preempted=lambda: made.step == STEPS)
    assert made.step == STEPS


def test_stop_is_asked_before_each_step() -> None:
    made = trainer(config())
    with pytest.raises(KeyboardInterrupt):
        made.fit(batches(), stop=_raise_at(5))
    assert made.step == 5


def _raise_at(count: int) -> Callable[[], None]:
    calls = itertools.count()

    def stop() -> None:
        if next(calls) == count:
            raise KeyboardInterrupt

    return stop


def test_data_that_ends_early_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended at step 7 of 20"):
        trainer(config()).fit(batches(0, 7))


def test_a_loss_that_is_no_number_names_step_and_keys() -> None:
    with pytest.raises(DivergedError, match="the loss is nan in step 6; the batch holds key5-0"):
        trainer(config()).fit(spoilt(5, float("nan")))


def test_a_loss_out_of_all_proportion_ends_the_training() -> None:
    student = network(norm=False)
    with pytest.raises(DivergedError, match=r"the cross_entropy part of the loss is .* in step 26; the batch holds"):
        trainer(config(steps=30), student=student).fit(spoilt(25, 1e8, 30))


def test_a_high_rate_that_diverges_is_noticed() -> None:
    made = trainer(config(steps=300, lr=1e12, optimizer="sgd", clip=None, ema_share=None), student=network(norm=False))
    with pytest.raises(DivergedError):
        made.fit(batches(0, 300))


def test_a_step_that_overflows_in_float16_is_left_out() -> None:
    made = trainer(config(steps=1, precision="float16", ema_share=None), student=network(norm=False))
    made._stepper._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = made.weights()
    made.fit(iter([batch(0)]))
    assert all(torch.equal(value, before[name]) for name, value in made.weights().items())
    assert made._stepper._scaler.get_scale() == 2.0**119


def test_overflows_that_go_on_in_float16_are_a_divergence() -> None:
    class Endless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.linear(x.mean((2, 3))) * 1e30 * 1e30
            return answer

    with pytest.raises(DivergedError, match=r"overflowed 20 times in a row .* in step 20"):
        trainer(config(steps=30, precision="float16"), student=Endless()).fit(batches(0, 30))
