"""Averaged weights: an exponential moving average of everything in the network that changes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """The moving average of a network's weights.

    Args:
        network: its tensors must stay the same objects, changed in place.
        decay: share of the average that outlives a step, once the run is long.
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._values = {name: value.detach().clone() for name, value in network.state_dict().items()}
        # State dicts are slow to make, and the tensors in them stay the same.
        live = dict(network.state_dict(keep_vars=True))
        moving = [name for name, value in live.items() if not isinstance(value, nn.Parameter) or value.requires_grad]
        floats = [name for name in moving if live[name].is_floating_point()]
        counts = [name for name in moving if not live[name].is_floating_point()]
        self._own, self._live = [self._values[n] for n in floats], [live[n].detach() for n in floats]
        self._own_counts, self._live_counts = [self._values[n] for n in counts], [live[n] for n in counts]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step` (from 1)."""
        # A short run would otherwise remember its random start: the decay grows with the steps done.
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, self._live, 1 - decay)
        if self._own_counts:
            torch._foreach_copy_(self._own_counts, self._live_counts)

    def weights(self) -> dict[str, Tensor]:
        """The averaged state dict itself, no copy."""
        return self._values

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go back to what `weights` once gave."""
        for name, value in self._values.items():
            value.copy_(values[name])
