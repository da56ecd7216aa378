"""What a loss adds to a step: the micro student at 96 px, batches of 32, one thread, real taps, steps interleaved.

A step is the student's forward pass, the objective, its backward pass and AdamW. The teacher's pass is left out: its
logits and features come from one pass made before, as stored ones would.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from models.losses.targets import Targets
from models.losses.terms import LOSSES, Term, full_options
from models.networks.build import build
from models.networks.graft import adopt
from models.networks.taps import Taps, resolve, shapes
from models.training.objective import Objective, Setting
from tasks.spec.losses import LossTerm, terms_of_section

SIDE, BATCH, CLASSES, SAMPLES = 96, 32, 6, 2000
TEACHER = "tf_efficientnet_lite0"
REFERENCE = "kl"


def in_objective(loss: str) -> list[dict[str, Any]]:
    """The objective that a loss is measured in, as `student.loss` of a spec.

    A loss on labels takes cross-entropy's place beside kl, one on logits kl's place beside cross-entropy; what is
    meant as an addition (features, logits of stages) comes third. SimKD stands alone, as its authors have it. Weights
    are 1, or those of the authors where they were not tuned on CIFAR.
    """
    info = LOSSES[loss]
    if "single" not in info.tasks and "ordinal" not in info.tasks:
        return [{"loss": "binary"}, {"loss": "soft_binary"}]
    if info.inside:
        return [{"loss": loss}]
    if info.reads == "labels":
        return [{"loss": loss}, {"loss": "kl"}]
    if info.reads == "logits" and not info.stages:
        return [{"loss": "cross_entropy"}, {"loss": loss, "weight": 1.0 if info.cifar else info.published}]
    return [{"loss": "cross_entropy"}, {"loss": "kl"}, {"loss": loss}]


@dataclass(frozen=True)
class Cost:
    """Of one loss: milliseconds of a step (median over rounds), and the module that holds its formula."""

    milliseconds: float
    module: str


def costs(losses: Sequence[str], *, rounds: int) -> dict[str, Cost]:
    """What a step costs with each loss; every round steps once with all of them in turn."""
    # One: with more, waiting for each other hides what a loss costs, most of all on a machine that is not idle.
    torch.set_num_threads(1)
    contenders = {loss: _Step(loss) for loss in losses}
    taken: dict[str, list[float]] = {loss: [] for loss in losses}
    for number in range(1 + rounds):
        for loss, contender in contenders.items():
            start = time.perf_counter()
            contender()
            if number:  # the first fills caches
                taken[loss].append(1e3 * (time.perf_counter() - start))
    return {loss: Cost(median(taken[loss]), contenders[loss].module) for loss in losses}


class _Step:
    """A student, its objective and one batch."""

    def __init__(self, loss: str) -> None:
        self.loss = loss
        torch.manual_seed(0)
        # Attention of channels compares maps of one architecture.
        teacher = _teacher("micro" if loss == "attention_channels" else TEACHER)
        self.x = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
        self.student = self._built(loss, teacher)
        terms = [
            replace(
                term,
                student_taps=resolve(self.student, term.student_taps),
                teacher_taps=resolve(teacher, term.teacher_taps),
                rescale=False,  # measured over the first steps alone
            )
            for term in terms_of_section([LossTerm.model_validate(one) for one in in_objective(loss)], smoothing=0.0)
        ]
        own = sorted({tap for term in terms for tap in term.student_taps})
        theirs = sorted({tap for term in terms for tap in term.teacher_taps})
        self.targets = _targets(teacher, theirs, self.x, many="binary" in {term.loss for term in terms})
        self.objective = Objective(terms, _setting(self.student, own, teacher, theirs))
        self.taps = Taps(self.student, own) if own else None
        learning = [p for p in (*self.student.parameters(), *self.objective.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=1e-3)

    def _built(self, loss: str, teacher: nn.Module) -> nn.Module:
        options: dict[str, Any] = {}
        if LOSSES[loss].inside:
            width = teacher.get_classifier().in_features  # type: ignore[operator]
            options["graft"] = {"width": width, **full_options(Term(loss))}
        student = build("micro", num_classes=CLASSES, options=options, seed=0, size=SIDE).module
        if options:
            adopt(student, teacher)  # type: ignore[arg-type]
        return student.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def module(self) -> str:
        """Where the formula of the loss is."""
        reads = LOSSES[self.loss].reads
        if reads == "maps" or LOSSES[self.loss].stages:
            return type(self.objective.parts[-1].losses[0]).__module__  # type: ignore[index]
        return f"models.losses.{reads}"

    def __call__(self) -> None:
        z = self.student(self.x)
        maps = self.taps.take() if self.taps is not None else {}
        loss, _ = self.objective(z, self.targets, done=0.5, maps=maps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


@cache
def _teacher(model: str) -> nn.Module:
    return build(model, num_classes=CLASSES, seed=1, size=SIDE).module.eval()


def _setting(student: nn.Module, own: Sequence[str], teacher: nn.Module, theirs: Sequence[str]) -> Setting:
    return Setting(
        classes=CLASSES,
        prior=(1 / CLASSES,) * CLASSES,
        samples=SAMPLES,
        student=shapes(student, own, SIDE) if own else {},
        teachers=(shapes(teacher, theirs, SIDE) if theirs else {},),
        names=("teacher",),
    )


@torch.no_grad()
def _targets(teacher: nn.Module, theirs: Sequence[str], x: Tensor, *, many: bool) -> Targets:
    with Taps(teacher, theirs) as taps:
        logits = teacher(x)
        maps = {name: tensor.clone() for name, tensor in taps.take().items()}
    label = torch.randint(CLASSES, (BATCH,))
    return Targets(
        label_B=torch.full((BATCH,), -1) if many else label,
        labels_BC=nn.functional.one_hot(label, CLASSES).float() if many else None,
        teacher_KBC=logits[None],
        valid_B=torch.ones(BATCH, dtype=torch.bool),
        weight_B=torch.ones(BATCH),
        index_B=torch.randperm(SAMPLES)[:BATCH],
        maps=(maps,),
    )
