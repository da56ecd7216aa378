"""Teachers that see each batch of a training: for features, which are too large to store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from models.losses.targets import Targets
from models.networks.taps import Taps


@dataclass(frozen=True)
class Member:
    """One teacher.

    Attributes:
        module: the network; it is frozen and put into eval mode.
        taps: its features that the losses read, place by name, see `models.networks.taps`.
    """

    module: nn.Module
    taps: Mapping[str, str] = field(default_factory=dict)


class Teachers:
    """Asks teachers about a batch, without a gradient and in the caller's autocast.

    Args:
        members: in the order of K.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._modules = [member.module.eval().requires_grad_(False) for member in members]
        self._taps = [Taps(member.module, member.taps) if member.taps else None for member in members]

    def to(self, device: torch.device) -> Teachers:
        """Moved to a device, channels_last; itself."""
        for module in self._modules:
            module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    @torch.no_grad()
    def teach(self, teacher_x: Sequence[Tensor], targets: Targets) -> Targets:
        """The targets with what the teachers say of the batch.

        Args:
            teacher_x: the same pictures for each teacher, float32 [B, 3, H, W] at its own size.
            targets: on the teachers' device; their `teacher_KBC`, `valid_B` and `maps` are replaced.

        Returns:
            Targets with raw logits float32 [K, B, C], float32 maps by tap, and `valid_B` False where the answer of any
            teacher is not finite.

        Raises:
            ValueError: not one input for each teacher.
        """
        if len(teacher_x) != len(self._modules):
            raise ValueError(f"{len(self._modules)} teachers need as many inputs, got {len(teacher_x)}")
        device = targets.valid_B.device
        logits, maps = [], []
        for module, taps, x in zip(self._modules, self._taps, teacher_x, strict=True):
            x_B3HW = x.to(device, memory_format=torch.channels_last, non_blocking=True)
            logits.append(module(x_B3HW).float())
            maps.append({} if taps is None else {name: map_B.float() for name, map_B in taps.take().items()})
        teacher_KBC = torch.stack(logits)
        valid_B = teacher_KBC.isfinite().all(2).all(0)
        for map_B in (map_B for one in maps for map_B in one.values()):
            valid_B = valid_B & map_B.flatten(1).isfinite().all(1)
        return replace(targets, teacher_KBC=teacher_KBC, valid_B=valid_B, maps=tuple(maps))
