"""The machine that a plan speaks of: its cores, its device, and how much runs at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infra.compute.cluster import cores
from tasks.spec import Spec


@dataclass(frozen=True)
class Machine:
    """The machine that would do the work."""

    cores: int
    slots: int  # tasks at once
    device: str  # cpu or cuda
    elsewhere: str | None  # a scheduler's address: the measuring is still done here

    @classmethod
    def of(cls, spec: Spec) -> Machine:
        """The machine that a run of the spec on this host would use."""
        section = spec.run.cluster
        device = "cuda" if spec.run.device != "cpu" and torch.cuda.is_available() else "cpu"
        slots = (section.workers or cores()) * (section.threads or 1)
        return cls(cores(), slots, device, section.address)

    @property
    def at_once(self) -> int:
        """Networks that run side by side."""
        return torch.cuda.device_count() if self.device == "cuda" else self.slots
