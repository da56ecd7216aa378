"""Features as the losses want them: maps as vectors, vectors as maps, two maps of one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import Shape


def only(loss: str, taps: Sequence[Shape]) -> Shape:
    """The shape of a loss's one tap; ValueError where there are several."""
    if len(taps) != 1:
        raise ValueError(f"{loss} reads one tap of each network, and {len(taps)} are named")
    return taps[0]


def as_vector(x_N: Tensor) -> Tensor:
    """[N, D] of features [N, D] or [N, D, H, W]; maps are averaged over their positions."""
    return x_N if x_N.ndim == 2 else x_N.mean(dim=(2, 3))


def as_map(x_N: Tensor) -> Tensor:
    """[N, D, H, W] of features [N, D] or [N, D, H, W]; a vector is a map of one position."""
    return x_N if x_N.ndim == 4 else x_N[:, :, None, None]


def same_size(a_N: Tensor, b_N: Tensor) -> tuple[Tensor, Tensor]:
    """Two features as maps of one size: the larger is averaged down to the smaller, in either direction."""
    a_NDHW, b_NDHW = as_map(a_N), as_map(b_N)
    size = (min(a_NDHW.shape[2], b_NDHW.shape[2]), min(a_NDHW.shape[3], b_NDHW.shape[3]))
    return pooled_to(a_NDHW, size), pooled_to(b_NDHW, size)


def pooled_to(x_NDHW: Tensor, size: tuple[int, int]) -> Tensor:
    """A map averaged down to `size` (height, width)."""
    return x_NDHW if x_NDHW.shape[2:] == size else F.adaptive_avg_pool2d(x_NDHW, size)


def squared_error(a_NDHW: Tensor, b_NDHW: Tensor) -> Tensor:
    """[N]: mean squared difference of each sample."""
    return (a_NDHW - b_NDHW).square().flatten(1).mean(1)


class SteadyNorm(nn.BatchNorm2d):
    """Batch norm that falls back to its running statistics where a batch has one value a channel.

    A term may see a single row, and the deepest map of a small image one position; batch norm refuses to train on that.
    """

    def forward(self, x_NDHW: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        if self.training and x_NDHW.numel() == x_NDHW.shape[1]:
            return F.batch_norm(x_NDHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normed: Tensor = super().forward(x_NDHW)
        return normed
