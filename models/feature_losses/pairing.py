"""Which taps of student and teacher belong together, and vectors of length one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def deepest(own: Sequence[T], theirs: Sequence[T]) -> list[tuple[T, T]]:
    """Pairs from the last on, as many as both have: networks differ in how many stages come before them."""
    count = min(len(own), len(theirs))
    return list(zip(own[-count:], theirs[-count:], strict=True))


def unit(x: Tensor, eps: float) -> Tensor:
    """`x` divided by its L2 norms over the last dimension.

    What is no longer than `eps` is left as it is: it has no direction, and dividing by `eps` would multiply its
    gradient by 1 / eps.
    """
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norms > eps, norms, 1.0)
