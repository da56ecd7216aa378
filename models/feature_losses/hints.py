"""Regression of the teacher's features on the student's: FitNets, variational information distillation, SimKD.

FitNets and VID regress with 1x1 convolutions, for any numbers of channels. Maps of other sizes are first resized to the
teacher's: averaged down adaptively where they are larger, interpolated bilinearly where they are smaller [our reading:
the papers pair maps of one size or use strided convolutions, which fit one pair of networks only]. A vector is a map of
one position, and a map compared with it is averaged to one position. Several taps are paired from the deepest and
summed. SimKD's projector is part of the student (`models.networks.graft`), so its loss only compares.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import (
    FeatureLoss,
    Shape,
    as_map,
    only_tap,
    pair_deepest,
    pooled_to,
    same_size,
    squared_error,
)
from models.losses.targets import Targets

_EPS = 1e-5


class _Regressed(FeatureLoss):
    """Pairs of taps, each with a regressor from the student's channels to the teacher's."""

    def __init__(self, own: list[Shape], theirs: list[Shape]) -> None:
        super().__init__()
        pairs = pair_deepest(own, theirs)
        self.regressors = nn.ModuleList(self._regressor(ours[0], teachers[0]) for ours, teachers in pairs)

    def _regressor(self, width: int, teacher_width: int) -> nn.Module:
        raise NotImplementedError

    def _pairs(self, own: list[Tensor], theirs: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(regressed map, the teacher's map), [N, D, H, W] both, of every pair."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for regressor, (ours, teachers) in zip(self.regressors, pair_deepest(own, theirs), strict=True):
            ours_NDHW, teachers_NDHW = _to_teacher(ours, teachers)
            pairs.append((regressor(ours_NDHW), teachers_NDHW))
        return pairs


class Hint(_Regressed):
    """Mean squared error between the regressed and the teacher's features (Romero et al. 2015, 1412.6550).

    The regressor is one 1x1 convolution with a bias. It has no batch norm, so that the loss of a sample depends
    on that sample only. [N]: the mean over channels and positions.
    """

    def __init__(self, own: list[Shape], theirs: list[Shape], **_: object) -> None:
        super().__init__(own, theirs)

    def _regressor(self, width: int, teacher_width: int) -> nn.Module:
        return nn.Conv2d(width, teacher_width, 1)

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """[N]; 0 where the regressed features are the teacher's."""
        return torch.stack([squared_error(*pair) for pair in self._pairs(own, theirs)]).sum(0)


class Variational(_Regressed):
    """Negative log-likelihood of the teacher's features (Ahn et al. 2019, 1904.05835).

    A Gaussian whose mean is regressed by three 1x1 convolutions and whose variance is one of each channel,
    softplus(rho) + 1e-5: mean of ((mean - t)^2 / variance + log variance) / 2 over channels and positions, without the
    constant. It may be negative. [N].

    Args:
        variance: of every channel before training.

    Raises:
        ValueError: a variance that is not above 1e-5.
    """

    def __init__(self, own: list[Shape], theirs: list[Shape], *, variance: float = 5.0, **_: object) -> None:
        if variance <= _EPS:
            raise ValueError(f"vid: variance is {variance}; it must be above {_EPS}")
        super().__init__(own, theirs)
        first = variance - _EPS
        # The inverse of softplus, in a form without overflow or cancellation.
        rho = first + math.log(-math.expm1(-first))
        self.rhos = nn.ParameterList(
            nn.Parameter(torch.full((teachers[0],), rho)) for _, teachers in pair_deepest(own, theirs)
        )

    def _regressor(self, width: int, teacher_width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(width, teacher_width, 1),
            nn.ReLU(),
            nn.Conv2d(teacher_width, teacher_width, 1),
            nn.ReLU(),
            nn.Conv2d(teacher_width, teacher_width, 1),
        )

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """[N]."""
        values = []
        for rho_D, (mean_NDHW, teachers_NDHW) in zip(self.rhos, self._pairs(own, theirs), strict=True):
            variance_D11 = (F.softplus(rho_D) + _EPS)[:, None, None]
            nll_NDHW = 0.5 * ((mean_NDHW - teachers_NDHW).square() / variance_D11 + variance_D11.log())
            values.append(nll_NDHW.flatten(1).mean(1))
        return torch.stack(values).sum(0)


class Reuse(FeatureLoss):
    """SimKD (Chen et al. 2022, 2203.14001): the student reuses the teacher's classifier.

    Mean squared error between the student's projected map and the teacher's last map; one value a sample [N]. Projector
    and the teacher's classifier belong to the student (`models.networks.graft.Grafted`), because
    inference uses them. Maps of two sizes are compared at the smaller size, a vector and a map at one position. The
    paper uses no other term.

    Args:
        factor: of the graft's projector; not used here.

    Raises:
        ValueError: several taps, or student and teacher differ in channels.
    """

    def __init__(
        self, own: list[Shape], theirs: list[Shape], *, classes: int, samples: int, temperature: float, factor: int
    ) -> None:
        super().__init__()
        width, wanted = only_tap("simkd", own)[0], only_tap("simkd", theirs)[0]
        if width != wanted:
            raise ValueError(
                f"simkd compares {width} channels of the student with {wanted} of the teacher: build the student with "
                f"a graft of width {wanted}"
            )

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class."""
        return squared_error(*same_size(own[0], theirs[0]))


def _to_teacher(ours: Tensor, teachers: Tensor) -> tuple[Tensor, Tensor]:
    """Both as maps of the teacher's size, or of one position where the student's is a vector."""
    if ours.ndim == 2:
        return as_map(ours), pooled_to(as_map(teachers), (1, 1))
    ours_NDHW, teachers_NDHW = as_map(ours), as_map(teachers)
    height, width = teachers_NDHW.shape[2:]
    if ours_NDHW.shape[2] >= height and ours_NDHW.shape[3] >= width:
        return pooled_to(ours_NDHW, (height, width)), teachers_NDHW
    return F.interpolate(ours_NDHW, (height, width), mode="bilinear", align_corners=False), teachers_NDHW
