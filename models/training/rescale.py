"""Weights by gradient norm: published weights were tuned on CIFAR and do not transfer; ratios of gradients do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

STEPS = 20
"""Steps over which norms are compared before the scale is fixed."""

_LARGEST = 1e6


class Rescale(nn.Module):
    """Factors that give chosen terms the same gradient norm as a weighted reference term.

    Over the first `STEPS` steps at which a chosen term is active, the norms of its gradient and of the reference's are
    taken over the parameters of the student that both reach. The factor is the geometric mean of their ratios so far
    times the reference's weight; it is then fixed. The reference's schedule does not count. [our reading: the papers
    give weights, not a way to transfer them]

    Args:
        chosen: which terms are rescaled.
        against: the reference term.
        weight: of the reference term.
    """

    def __init__(self, chosen: Sequence[int], against: int, weight: float = 1.0) -> None:
        super().__init__()
        self._chosen, self._against, self._weight = list(chosen), against, weight
        # Numbers, not buffers: reading a buffer would wait for the device in every step.
        self._logs, self._counts = [0.0] * len(self._chosen), [0] * len(self._chosen)

    def get_extra_state(self) -> dict[str, list[float]]:
        """The measurements so far."""
        return {"logs": list(self._logs), "counts": [float(count) for count in self._counts]}

    def set_extra_state(self, state: dict[str, list[float]]) -> None:
        """Restore what `get_extra_state` returned."""
        self._logs, self._counts = list(state["logs"]), [int(count) for count in state["counts"]]

    def forward(self, values: Sequence[Tensor], active: Sequence[bool], student: Sequence[nn.Parameter]) -> list[float]:
        """A factor for each term; 1 for those that are not chosen.

        Args:
            values: every term's loss, still in its graph.
            active: which terms count in this step.
            student: parameters that norms are taken over; empty: nothing is measured (in validation, say).
        """
        if torch.is_grad_enabled() and student:
            reference: list[Tensor | None] | None = None
            for place, term in enumerate(self._chosen):
                # The same on every rank: the counts are equal.
                if not active[term] or self._counts[place] >= STEPS:
                    continue
                if reference is None:
                    reference = _gradient(values[self._against], student)
                self._record(place, reference, _gradient(values[term], student))
        scales = [1.0] * len(values)
        for place, term in enumerate(self._chosen):
            if self._counts[place]:
                scales[term] = self._weight * math.exp(self._logs[place] / self._counts[place])
        return scales

    @torch.no_grad()
    def _record(self, place: int, reference: Sequence[Tensor | None], own: Sequence[Tensor | None]) -> None:
        pairs = [(a, b) for a, b in zip(reference, own, strict=True) if a is not None and b is not None]
        if not pairs:
            return
        each = torch.stack([torch.stack([a.double().square().sum(), b.double().square().sum()]) for a, b in pairs])
        # Compiled code returns zeros for parameters that a loss does not reach, eager code None.
        squares = (each * (each > 0).all(1, keepdim=True)).sum(0)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(squares)
        reference_norm, norm = squares.sqrt().tolist()
        if reference_norm > 0 and norm > 0:
            ratio = min(max(reference_norm / norm, 1 / _LARGEST), _LARGEST)
            self._logs[place] += math.log(ratio)
            self._counts[place] += 1


def _gradient(value: Tensor, student: Sequence[nn.Parameter]) -> list[Tensor | None]:
    if not value.requires_grad:
        return [None] * len(student)
    return list(torch.autograd.grad(value, list(student), retain_graph=True, allow_unused=True))
