"""Small networks, batches and trainers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from models.losses.targets import Targets
from models.losses.terms import Term
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective
from models.training.trainer import Trainer

STEPS = 20
ON_LABELS = Term("cross_entropy")


def network(*, norm: bool = True, dropout: float = 0.2) -> nn.Sequential:
    """[B, 3, 8, 8] -> two logits."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(144, 2),
    )


def batch(step: int, size: int = 8) -> Batch:
    """Two classes of noise around 0 and 2, a third of it unlabelled, with a teacher who is right."""
    random = torch.Generator().manual_seed(step)
    label = torch.randint(0, 2, (size,), generator=random)
    x = torch.randn(size, 3, 8, 8, generator=random) + 2.0 * label[:, None, None, None]
    targets = Targets(
        label_B=torch.where(torch.arange(size) % 3 == 0, -1, label),
        labels_BC=None,
        teacher_KBC=torch.nn.functional.one_hot(label, 2).float()[None] * 3,
        valid_B=torch.ones(size, dtype=torch.bool),
        weight_B=torch.rand(size, generator=random) + 0.5,
        index_B=torch.arange(size) + step * size,
        maps=({"pooled": torch.randn(size, 6, generator=random)},),
    )
    return Batch(x, targets, [f"key{step}-{i}" for i in range(size)])


def batches(start: int = 0, stop: int = STEPS) -> Iterator[Batch]:
    """Those of steps `start` to `stop` - 1."""
    return (batch(step) for step in range(start, stop))


def spoilt(at: int, value: float, stop: int = STEPS) -> Iterator[Batch]:
    """Batches whose second image is `value` throughout in one step (from 0)."""
    for step in range(stop):
        made = batch(step)
        if step == at:
            made.x_B3HW[1] = value
        yield made


def trainer(config: TrainConfig, terms: Sequence[Term] = (ON_LABELS,), student: nn.Module | None = None) -> Trainer:
    """A trainer of `network`, its random state set."""
    made = Trainer(student or network(), Objective(list(terms)), config)
    torch.manual_seed(1)
    return made


def same(one: Trainer, other: Trainer) -> bool:
    """Whether both keep the same weights, bit by bit."""
    ours, theirs = one.weights(), other.weights()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)
