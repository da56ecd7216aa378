"""Knowledge review (Chen et al. 2021, 2104.09044): shallow stages of the student answer for what deeper ones know."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.maps import SteadyNorm, as_map, pooled_to, squared_error
from models.feature_losses.pairing import deepest
from models.losses.targets import Targets

_POOLS = (4, 2, 1)


class Review(FeatureLoss):
    """Fused stages of the student against the teacher's, from deep to shallow; one value a sample [N].

    Each stage of the student is projected to `width` channels and blended with what came from the deeper stage (the
    paper's attention-based fusion, ABF); the blend goes on to the shallower stage and, through a 3x3 convolution to
    the teacher's channels, is compared with the teacher's stage by the hierarchical context loss (HCL). The losses of
    the stages are added. With S stages of the student and T of the teacher the last min(S, T) are paired [our reading].
    The authors also review the pooled vector; this sees stages only.

    Args:
        width: channels of the fusion.
    """

    def __init__(
        self,
        own: list[Shape],
        theirs: list[Shape],
        *,
        classes: int,
        samples: int,
        temperature: float,
        width: int,
    ) -> None:
        super().__init__()
        pairs = reversed(deepest(own, theirs))
        self.fusions = nn.ModuleList(_Fusion(s[0], width, t[0], first=i == 0) for i, (s, t) in enumerate(pairs))

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class."""
        losses, deeper = [], None
        for fusion, (own_N, theirs_N) in zip(self.fusions, reversed(deepest(own, theirs)), strict=True):
            theirs_NDHW = as_map(theirs_N)
            fused_NDHW, deeper = fusion(as_map(own_N), deeper, theirs_NDHW.shape[2:])
            losses.append(context_loss(fused_NDHW, theirs_NDHW))
        return torch.stack(losses).sum(0)


class _Fusion(nn.Module):
    """The paper's ABF: which position takes how much of this stage and of the deeper one is learnt."""

    def __init__(self, c_own: int, width: int, c_theirs: int, *, first: bool) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(c_own, width, 1, bias=False), SteadyNorm(width))
        self.attend = None if first else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        self.widen = nn.Sequential(nn.Conv2d(width, c_theirs, 3, padding=1, bias=False), SteadyNorm(c_theirs))

    def forward(self, own_NDHW: Tensor, deeper_NDHW: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        mixed_NDHW: Tensor = self.narrow(own_NDHW)
        if self.attend is not None and deeper_NDHW is not None:
            deeper_NDHW = _resized(deeper_NDHW, mixed_NDHW.shape[2:])
            share_N2HW = self.attend(torch.cat([mixed_NDHW, deeper_NDHW], dim=1))
            mixed_NDHW = mixed_NDHW * share_N2HW[:, :1] + deeper_NDHW * share_N2HW[:, 1:]
        mixed_NDHW = _resized(mixed_NDHW, size)
        return self.widen(mixed_NDHW), mixed_NDHW


def _resized(x_NDHW: Tensor, size: torch.Size) -> Tensor:
    return x_NDHW if x_NDHW.shape[2:] == size else F.interpolate(x_NDHW, size=tuple(size), mode="nearest")


def context_loss(own_NDHW: Tensor, theirs_NDHW: Tensor) -> Tensor:
    """HCL [N]: squared error of two maps and of their averages over 4x4, 2x2 and 1 positions.

    Weights 1, 1/2, 1/4, 1/8, divided by their sum. Averages that are no smaller than the map are left out, and the
    weights of those that are left halve from there, as in the authors' code.
    """
    levels = [(own_NDHW, theirs_NDHW)]
    for pool in _POOLS:
        if pool < min(own_NDHW.shape[2:]):
            levels.append((pooled_to(own_NDHW, (pool, pool)), pooled_to(theirs_NDHW, (pool, pool))))
    errors_LN = torch.stack([squared_error(a, b) for a, b in levels])
    weight_L1 = 0.5 ** torch.arange(len(levels), dtype=errors_LN.dtype, device=errors_LN.device)[:, None]
    return (errors_LN * weight_L1).sum(0) / weight_L1.sum()
