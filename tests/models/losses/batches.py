"""Logits and targets that the tests of losses share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.losses.targets import Targets

Z = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.1, -2.0]], dtype=torch.float64)
T = torch.tensor([[[0.5, 1.5, -1.0], [2.0, 0.0, 0.1]], [[-0.5, 0.5, 1.0], [0.0, 3.0, 0.1]]], dtype=torch.float64)


def targets(rows: int = 2, **change: object) -> Targets:
    """The first row of class 2, the others unlabelled; two teachers."""
    values: dict[str, object] = {
        "label_B": torch.tensor([2] + [-1] * (rows - 1)),
        "labels_BC": None,
        "teacher_KBC": T,
        "valid_B": torch.ones(rows) > 0,
        "weight_B": torch.ones(rows, dtype=torch.float64),
    }
    return Targets(**{**values, **change})  # type: ignore[arg-type]


def softmax(x: np.ndarray | Tensor) -> np.ndarray:
    """Of the last axis, in float64."""
    e = np.exp(np.asarray(x, dtype=np.float64))
    return np.asarray(e / e.sum(-1, keepdims=True))


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) over the last axis; no zeros."""
    return np.asarray((p * np.log(p / q)).sum(-1))


def gradients_agree(loss: Callable[[Tensor], Tensor], z: Tensor = Z) -> bool:
    """Whether analytical gradients of the logits are the numerical ones, in float64."""
    return bool(torch.autograd.gradcheck(loss, (z.clone().requires_grad_(),)))


def value_and_gradient(loss: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and its gradient with respect to the logits."""
    z = z.clone().requires_grad_()
    value = loss(z)
    value.sum().backward()
    assert z.grad is not None
    return value.detach(), z.grad
