"""The work of each of two processes that train as one; results are written to a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from models.losses.terms import Term
from models.networks.taps import Taps
from models.training.config import Batch, DivergedError, PreemptedError, TrainConfig
from models.training.objective import Objective, Setting
from models.training.trainer import Trainer
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


def whole_batch(term: Term) -> Trainer:
    """A trainer of labels and one more term with plain gradient steps; two teachers."""
    student = network(norm=False, dropout=0.0)
    taps = ("3",)
    if term.needs_maps:
        term = replace(term, student_taps=taps, teacher_taps=("pooled",))
    setting = Setting(classes=2, student={"3": (144,)}, teachers=({"pooled": (6,)},) * 2, names=("one", "two"))
    config = TrainConfig(steps=STEPS, lr=0.05, optimizer="sgd", clip=None, ema_share=None)
    return Trainer(student, Objective([ON_LABELS, term], setting), config, taps=Taps(student, taps))


def two_teachers() -> Iterator[Batch]:
    """As `uneven`, with a second teacher."""
    for made in uneven(0):
        first = made.targets.teacher_KBC
        assert first is not None
        logits = torch.cat([first, first.flip(2).cumsum(1) / 3])
        maps = made.targets.maps[0]["pooled"]
        both = ({"pooled": maps}, {"pooled": maps.cumsum(0)})
        yield replace(made, targets=replace(made.targets, teacher_KBC=logits, maps=both))


WHOLE_BATCH = {
    "similarity": Term("similarity", weight=3.0),
    "pkt": Term("pkt", weight=30.0),
    "rkd": Term("rkd", weight=0.1, teachers="entropy"),
    "rkd of one rank's rows": Term("rkd", weight=0.1, where="unlabelled"),
    "dist": Term("dist", options={"beta": 0.0}),
    "dist of one rank's rows": Term("dist", where="unlabelled", options={"beta": 0.0}),
    "aekd": Term("kl", teachers="aekd"),
    "aekd of one rank's rows": Term("kl", teachers="aekd", where="unlabelled"),
}
"""Terms that read a batch as a whole."""


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

    for name, term in WHOLE_BATCH.items():
        joint, losses = whole_batch(term), []
        joint.fit(part(two_teachers(), rank), on_step=lambda step, values, into=losses: into.append(values))  # type: ignore[misc]
        seen[name] = {"weights": joint.weights(), "steps": losses}

    torch.save(seen, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
