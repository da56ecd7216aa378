"""What all losses on features share: their interface, shapes of features, pairs of taps, safe normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.losses.ranks import of_all_ranks, of_own_rows, with_other_ranks
from models.losses.targets import Targets

T = TypeVar("T")

Shape = tuple[int, ...]
"""Of a tap without the batch: (D,) or (D, H, W)."""


class FeatureLoss(nn.Module):
    """Compares features of the student with those of a teacher.

    Subclasses take `(own, theirs, *, classes, samples, temperature, **options)`; see `registry.feature_loss`.
    """

    collective = False
    """Whether every rank must call it in every step, also without rows."""

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """A loss a sample [N], or one for all of them.

        Args:
            own: the student's features, float32 [N, D] or [N, D, H, W] each.
            theirs: the teacher's, likewise; of all teachers where the loss fuses them.
            targets: of the same N samples.
        """
        raise NotImplementedError


class BatchLoss(FeatureLoss):
    """A loss of a whole batch that is no sum over its samples: of relations between them, or a norm over all.

    In a torch.distributed group it sees the rows of all ranks. Subclasses implement `of_batch`.
    """

    collective = True

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """A scalar; 0 without rows."""
        ours, teachers = [with_other_ranks(map_N) for map_N in own], [of_all_ranks(map_N) for map_N in theirs]
        if not len(ours[0]):
            return torch.stack([map_N.sum() for map_N in own]).sum() * 0.0
        return of_own_rows(self.of_batch(ours, teachers), targets.weight_B)

    def of_batch(self, own: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """The scalar of N >= 1 samples."""
        raise NotImplementedError


def pair_deepest(own: Sequence[T], theirs: Sequence[T]) -> list[tuple[T, T]]:
    """Pairs of the last elements, as many as both have: networks differ in the number of their first stages."""
    count = min(len(own), len(theirs))
    return list(zip(own[-count:], theirs[-count:], strict=True))


def only_tap(loss: str, taps: Sequence[Shape]) -> Shape:
    """The shape of a loss's only tap; ValueError where there are several."""
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


def unit(x: Tensor, eps: float) -> Tensor:
    """`x` divided by its L2 norms over the last dimension.

    Vectors no longer than `eps` are returned unchanged: they have no direction, and dividing by `eps` would multiply
    their gradient by 1 / eps.
    """
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norms > eps, norms, 1.0)


class SafeBatchNorm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics where a batch has a single value for each channel.

    A term may get a single row, and the deepest map of a small image one position; torch's batch norm raises an error
    there in training.
    """

    def forward(self, x_NDHW: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        if self.training and x_NDHW.numel() == x_NDHW.shape[1]:
            return F.batch_norm(x_NDHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normed: Tensor = super().forward(x_NDHW)
        return normed
