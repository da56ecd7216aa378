"""Teachers that run on each batch of a training: for features, which are too large to store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from models.losses.targets import Targets
from models.networks.taps import Taps


@dataclass(frozen=True)
class OnlineTeacher:
    """One teacher.

    Attributes:
        module: the network; it is frozen and put into eval mode.
        taps: its features that the losses read, tap by name, see `models.networks.taps`.
    """

    module: nn.Module
    taps: Mapping[str, str] = field(default_factory=dict)


class OnlineTeachers:
    """Inference of teachers on a batch, without a gradient and in the caller's autocast.

    Args:
        teachers: in the order of K.
    """

    def __init__(self, teachers: Sequence[OnlineTeacher]) -> None:
        self._modules = [teacher.module.eval().requires_grad_(False) for teacher in teachers]
        self._taps = [Taps(teacher.module, teacher.taps) if teacher.taps else None for teacher in teachers]

    def to(self, device: torch.device) -> OnlineTeachers:
        """Move to a device, channels_last; returns self."""
        for module in self._modules:
            module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    @torch.no_grad()
    def with_outputs(self, teacher_x: Sequence[Tensor], targets: Targets) -> Targets:
        """The targets with the outputs of the teachers for the batch.

        Args:
            teacher_x: the same images for each teacher, float32 [B, 3, H, W] at its own size.
            targets: on the teachers' device; their `teacher_KBC`, `valid_B` and `maps` are replaced.

        Returns:
            Targets with raw logits float32 [K, B, C], float32 maps by tap, and `valid_B` False where an output of any
            teacher is not finite.

        Raises:
            ValueError: the number of inputs is not the number of teachers.
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
