"""Random states of a training, one a rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.training.ranks import rank

States = dict[str, Tensor]


def separate_randomness() -> None:
    """Seed this rank apart from the others, which were seeded alike: each must drop other units."""
    if rank() > 0:
        torch.manual_seed(_mixed(torch.initial_seed(), rank()))


def random_state(device: torch.device) -> States:
    """That of this process: of the CPU, and of its accelerator."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Sequence[States], device: torch.device, step: int) -> None:
    """Go back to this rank's state of those that were saved.

    With more ranks than at the time of saving, the new ones get a state of their own.
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
