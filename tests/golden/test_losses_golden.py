"""Values of every loss on labels and logits for fixed inputs, kept per version of the stage that trains on them."""

from __future__ import annotations

import torch

from models.losses.targets import Targets
from models.losses.terms import LOSSES, SOFTMAX, Term
from models.training.objective import Objective, Setting
from tasks.distill.request import DISTILL_NAME, VERSION
from tests.golden.guard import check

ROWS, CLASSES = 6, 5


def test_values_of_losses() -> None:
    rows, classes = torch.arange(ROWS)[:, None], torch.arange(CLASSES)[None]
    z = torch.sin(rows * 1.7 + classes * 2.3) * 2
    teacher = torch.cos(rows * 0.9 + classes * 1.1) * 3
    label = torch.tensor([0, 1, 2, 3, 4, -1])
    many = (rows + classes) % 3 - 1
    prior = tuple(torch.arange(CLASSES, 0, -1).div(15).tolist())
    values: dict[str, float] = {}
    for name, info in LOSSES.items():
        if info.reads == "maps" or info.stages:
            continue
        given = Targets(
            label_B=label,
            labels_BC=None if set(info.tasks) & set(SOFTMAX) else many.float(),
            teacher_KBC=teacher[None],
            valid_B=torch.ones(ROWS, dtype=torch.bool),
            weight_B=torch.ones(ROWS),
        )
        term = Term(name, temperature=info.temperature or 1.0)
        values[name] = round(Objective([term], Setting(CLASSES, prior=prior))(z, given)[0].item(), 3)
    check(f"{DISTILL_NAME}-losses", VERSION, values)
