"""Student and objective as one module: what data parallelism wraps and the optimiser moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.losses import Targets
from models.networks.taps import Taps
from models.training.objective import Objective

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast of a precision; for float32 one that does nothing.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


class Learner(nn.Module):
    """Computes the loss of a batch.

    Args:
        student: the network.
        objective: its losses; always in float32.
        taps: of the student, where the objective reads its features.
        precision: of the student's forward pass.
    """

    def __init__(self, student: nn.Module, objective: Objective, taps: Taps | None, precision: str) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self._taps, self._precision = taps, precision
        self._learning = [p for p in student.parameters() if p.requires_grad]

    def forward(
        self,
        x_B3HW: Tensor,
        targets: Targets,
        *,
        done: float,
        total_weight: Tensor,
        measure: bool,
        rows: list[Tensor | None] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (scalar) and unweighted parts by title, both shares of a batch that weighs `total_weight`.

        Args:
            done: share of the training that lies behind.
            measure: whether gradient norms may be taken, for terms that are rescaled.
            rows: that each term sees, where they are known.
        """
        with autocast(x_B3HW.device, self._precision):
            z_BC = self.student(x_B3HW)
        maps = {} if self._taps is None else self._taps.take()
        loss, parts = self.objective(
            z_BC,
            targets,
            done=done,
            maps=maps,
            student=self._learning if measure else (),
            total_weight=total_weight,
            rows=rows,
        )
        # An objective on features alone leaves the classifier without a gradient, which data parallelism waits for.
        return loss + 0.0 * z_BC.float().sum(), parts
