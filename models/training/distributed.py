"""Distributed training: ranks, reductions over them, shared buffers, a random state a rank.

Without a torch.distributed process group there is one rank, and every reduction returns its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
RandomStates = dict[str, Tensor]
"""Of one process by device type: cpu, cuda."""


def world_size() -> int:
    """Number of processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def smallest_over_ranks(value: int) -> int:
    """The smallest over all ranks."""
    return min(from_all(value))


def from_first(value: T) -> T:
    """The value of rank 0, on every rank; any object that can be pickled."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: T) -> list[T]:
    """The values of all ranks, in their order; any object that can be pickled."""
    if world_size() == 1:
        return [value]
    boxes: list[T] = [value] * world_size()
    dist.all_gather_object(boxes, value)
    return boxes


class SharedBuffers:
    """Running statistics, which every rank updates with its own part of the batch, made equal after each step.

    An element becomes the mean over the ranks that changed it. This covers the buffers of the student and of the
    objective's normalisation layers; other buffers of the objective are kept equal by its losses.
    """

    def __init__(self, student: nn.Module, objective: nn.Module) -> None:
        norms = [module for module in objective.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        found = [value for module in (student, *norms) for value in module.buffers()]
        self._buffers = [value for value in found if value.is_floating_point()]
        self._before: list[Tensor] = []

    @torch.no_grad()
    def save(self) -> None:
        """Save the values before a step."""
        self._before = [value.clone() for value in self._buffers]

    @torch.no_grad()
    def merge(self) -> None:
        """Make the buffers equal after a step; a collective call."""
        for dtype in sorted({value.dtype for value in self._buffers}, key=str):
            pairs = [(v, b) for v, b in zip(self._buffers, self._before, strict=True) if v.dtype == dtype]
            now = torch.cat([value.flatten() for value, _ in pairs])
            before = torch.cat([value.flatten() for _, value in pairs])
            changed = (now != before).to(dtype)
            both = sum_over_ranks(torch.stack([torch.where(changed > 0, now, 0), changed]))
            merged = torch.where(both[1] > 0, both[0] / both[1].clamp(min=1), before)
            places = merged.split([value.numel() for value, _ in pairs])
            for (value, _), place in zip(pairs, places, strict=True):
                value.copy_(place.view_as(value))


def separate_randomness() -> None:
    """Give this rank a seed of its own after all were seeded alike: dropout must differ between ranks."""
    if rank() > 0:
        torch.manual_seed(_mixed(torch.initial_seed(), rank()))


def random_state(device: torch.device) -> RandomStates:
    """The random states of this process: of the CPU and of its accelerator."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Sequence[RandomStates], device: torch.device, step: int) -> None:
    """Restore this rank's random state.

    With more ranks than at the time of saving, each additional rank is seeded by `step` and its number.

    Args:
        states: of every rank at the time of saving, as `random_state` returned them.
        step: steps done.
    """
    if rank() >= len(states):
        torch.manual_seed(_mixed(step, rank()))
        return
    own = states[rank()]
    torch.set_rng_state(own["cpu"])
    if device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], device)


def _mixed(seed: int, number: int) -> int:
    return (seed + number * 0x9E3779B97F4A7C15) % 2**63
