"""Several processes that train as one: what they must tell each other."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def world() -> int:
    """Processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if world() > 1 else 0


def total(value: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if world() > 1:
        dist.all_reduce(value)
    return value


def least(value: int) -> int:
    """The smallest over all ranks."""
    return min(from_all(value))


def from_first(value: T) -> T:
    """What rank 0 has."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: T) -> list[T]:
    """What every rank has, in the order of the ranks."""
    if world() == 1:
        return [value]
    boxes: list[T] = [value] * world()
    dist.all_gather_object(boxes, value)
    return boxes


class SharedBuffers:
    """Running statistics that every rank changes by its own part of the batch, made equal again after each step.

    An element becomes the mean over the ranks that changed it. These are the buffers of the student, and of the
    objective's normalisation layers; what else the objective keeps, its losses keep equal themselves.
    """

    def __init__(self, student: nn.Module, objective: nn.Module) -> None:
        norms = [module for module in objective.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        found = [value for module in (student, *norms) for value in module.buffers()]
        self._buffers = [value for value in found if value.is_floating_point()]
        self._before: list[Tensor] = []

    @torch.no_grad()
    def remember(self) -> None:
        """Before a step."""
        self._before = [value.clone() for value in self._buffers]

    @torch.no_grad()
    def merge(self) -> None:
        """After it; every rank calls it."""
        for dtype in sorted({value.dtype for value in self._buffers}, key=str):
            pairs = [(v, b) for v, b in zip(self._buffers, self._before, strict=True) if v.dtype == dtype]
            now = torch.cat([value.flatten() for value, _ in pairs])
            before = torch.cat([value.flatten() for _, value in pairs])
            changed = (now != before).to(dtype)
            both = total(torch.stack([torch.where(changed > 0, now, 0), changed]))
            merged = torch.where(both[1] > 0, both[0] / both[1].clamp(min=1), before)
            places = merged.split([value.numel() for value, _ in pairs])
            for (value, _), place in zip(pairs, places, strict=True):
                value.copy_(place.view_as(value))
