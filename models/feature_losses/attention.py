"""Attention transfer: losses on where features are large, not on the features themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from models.feature_losses.base import BatchLoss, FeatureLoss, Shape, pair_deepest, same_size, unit
from models.losses.targets import Targets

_DEAD = 1e-6
"""Norm of a channel below which it counts as zero."""

_TINY = 1e-12
"""The same of an attention map, whose values are powers."""


class Attention(FeatureLoss):
    """Squared difference of normalised attention maps (Zagoruyko and Komodakis 2017, 1612.03928).

    The attention of a map F is mean over channels of |F|^power, as a vector over the positions, divided by its L2 norm.
    [N]: mean over positions of the squared difference, as in the authors' code; their Eq. 2 has the norm itself, not
    its square, and no mean. Stages are paired from the deepest, the larger map is averaged down to the smaller,
    and the pairs are summed.

    Raises:
        ValueError: a tap that is a vector, or a power below 1, whose gradient is infinite at 0.
    """

    def __init__(self, own: list[Shape], theirs: list[Shape], *, power: float = 2.0, **_: object) -> None:
        super().__init__()
        _maps_only("attention", own, theirs)
        if power < 1:
            raise ValueError(f"attention: power is {power}; it must be at least 1")
        self._power = power

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """[N]; 0 for maps that are large in the same places."""
        values = []
        for pair in pair_deepest(own, theirs):
            ours_NP, teachers_NP = (self._attention(map_NDHW) for map_NDHW in same_size(*pair))
            values.append((ours_NP - teachers_NP).square().mean(1))
        return torch.stack(values).sum(0)

    def _attention(self, map_NDHW: Tensor) -> Tensor:
        return unit(map_NDHW.abs().pow(self._power).mean(1).flatten(1), _TINY)


class ChannelAttention(BatchLoss):
    """Distance of spatially normalised channels, of student and teacher of one architecture (paper 3, 2008.13574).

    As in the code of its first author, which is later than the preprint and need not be the paper's: each channel of
    each sample is divided by its L2 norm over the positions; the loss is the Frobenius norm of the difference over the
    whole [N, D, H, W] tensor, a scalar, and the mean over taps. It is not a mean over samples: it grows as sqrt(N * D),
    so the published weights, 1/5 with a teacher from x-rays and 1/1000 with one from ImageNet, hold for batches of 24
    and taps of 32 channels only (denseblock4.denselayer16.conv2 of DenseNet-121). With `scale_free` it is divided by
    sqrt(N * D), the root mean square over channels, so that one weight fits every batch and tap [our reading].

    Raises:
        ValueError: taps that are not maps, or whose shapes differ; there is no projector.
    """

    def __init__(self, own: list[Shape], theirs: list[Shape], *, scale_free: bool = False, **_: object) -> None:
        super().__init__()
        _maps_only("attention_channels", own, theirs)
        self._scale_free = scale_free
        if own != theirs:
            raise ValueError(
                f"attention_channels compares networks of one architecture: the student's features {own} are not "
                f"shaped as the teacher's {theirs}; use `attention`"
            )

    def of_batch(self, own: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """A scalar; 0 for equal features, and then without gradient."""
        distances = [
            torch.linalg.vector_norm(unit(ours.flatten(2), _DEAD) - unit(teachers.flatten(2), _DEAD))
            / ((ours.shape[0] * ours.shape[1]) ** 0.5 if self._scale_free else 1.0)
            for ours, teachers in zip(own, theirs, strict=True)
        ]
        return torch.stack(distances).mean()


def _maps_only(name: str, own: list[Shape], theirs: list[Shape]) -> None:
    flat = [shape for shape in (*own, *theirs) if len(shape) != 3]
    if flat:
        raise ValueError(f"{name} needs feature maps (D, H, W), and {flat[0]} is none; name other taps")
