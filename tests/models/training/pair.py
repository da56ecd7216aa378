"""The work of each of two processes that train as one; results are written to a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from models.losses.terms import Term
from models.training.config import Batch, DivergedError, PreemptedError, TrainConfig
from tests.models.training.nets import ON_LABELS, batch, network, spoilt, trainer

STEPS = 8
CONFIG = TrainConfig(
    steps=STEPS, lr=0.05, schedule="plateau", patience=1, validations=4, keep="best", checkpoint_every=4, accumulate=2
)
PLAIN = replace(CONFIG, schedule="cosine", keep="last")
TERMS = [ON_LABELS, Term("kl", where="unlabelled")]


def uneven(start: int) -> Iterator[Batch]:
    """Batches whose first four samples are unlabelled: all of one rank, and none of the other's."""
    for step in range(start, STEPS):
        made = batch(step)
        label = torch.where(torch.arange(8) < 4, -1, made.targets.label_B.clamp(min=0))
        yield replace(made, targets=replace(made.targets, label_B=label))


def part(whole: Iterator[Batch], rank: int) -> Iterator[Batch]:
    """This rank's half of each batch."""
    for made in whole:
        rows = slice(rank * 4, rank * 4 + 4)
        yield Batch(made.x_B3HW[rows], made.targets.rows(torch.arange(8)[rows]), made.keys[rows])


def kappa(weights: dict[str, torch.Tensor]) -> dict[str, float]:
    """A metric that goes up and down with the weights."""
    return {"kappa": float(weights["0.weight"].sum().sin())}


def work(rank: int, folder: str) -> None:
    """One rank; writes `<rank>.pt`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    seen: dict[str, Any] = {}

    made = trainer(CONFIG, TERMS, network(norm=False, dropout=0.0))
    saved: dict[int, bytes] = {}
    steps: list[dict[str, float]] = []
    validated: list[int] = []

    def validate(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        validated.append(made.step)
        return kappa(weights)

    made.fit(
        part(uneven(0), rank),
        on_step=lambda step, values: steps.append(values),
        on_checkpoint=saved.__setitem__,
        validate=validate,
        metric="kappa",
    )
    seen.update(weights=made.weights(), steps=steps, validated=validated)

    again = trainer(CONFIG, TERMS, network(norm=False, dropout=0.0))
    again.resume(saved[4])
    again.fit(part(uneven(4), rank), validate=kappa, metric="kappa")
    seen["resumed"] = again.weights()

    noisy = trainer(PLAIN, TERMS, network())
    noisy.fit(part(uneven(0), rank), on_checkpoint=saved.__setitem__)
    seen["noisy"] = dict(noisy.student.state_dict())
    noisy_again = trainer(PLAIN, TERMS, network())
    noisy_again.resume(saved[4])
    noisy_again.fit(part(uneven(4), rank))
    seen["noisy_resumed"] = dict(noisy_again.student.state_dict())
    seen["random"] = torch.rand(3)

    try:
        trainer(PLAIN, TERMS, network(norm=False)).fit(part(spoilt(2, float("nan"), STEPS), rank))
    except DivergedError as error:
        seen["diverged"] = str(error)

    ending = trainer(PLAIN, TERMS, network(norm=False))
    try:
        ending.fit(part(uneven(0), rank), preempted=lambda: rank == 1 and ending.step == 3)
    except PreemptedError as error:
        seen["preempted"] = str(error)

    torch.save(seen, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
