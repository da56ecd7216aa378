"""Targets and features for the tests of losses on features, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.losses.targets import Targets


def targets(rows: int, classes: int = 3, **change: object) -> Targets:
    """Labelled rows with logits of two teachers, the first places of all that train."""
    draw = torch.Generator().manual_seed(7)
    values: dict[str, object] = {
        "label_B": torch.arange(rows) % classes,
        "labels_BC": None,
        "teacher_KBC": torch.randn(2, rows, classes, generator=draw, dtype=torch.float64),
        "valid_B": torch.ones(rows, dtype=torch.bool),
        "weight_B": torch.ones(rows),
        "index_B": torch.arange(rows),
    }
    return Targets(**{**values, **change})  # type: ignore[arg-type]


def features(*shape: int, seed: int = 0) -> Tensor:
    """Normal float64 features."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def without_gradient(module: nn.Module) -> list[str]:
    """Parameters that a backward pass did not reach."""
    return [name for name, one in module.named_parameters() if one.grad is None or not bool(one.grad.abs().sum() > 0)]
