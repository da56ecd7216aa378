"""Losses on several stages of the student: One for all (OFA-KD) and knowledge review.

OFA-KD (Hao et al. 2023, 2310.19444) gives every stage of the student logits of its own. Logits are what networks of any
two kinds have in common, so that a transformer can teach a convolutional network's stages without comparing maps.
Knowledge review (Chen et al. 2021, 2104.09044) compares fused stages of the student with stages of the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import (
    FeatureLoss,
    SafeBatchNorm,
    Shape,
    as_map,
    as_vector,
    pair_deepest,
    pooled_to,
    squared_error,
)
from models.losses.labels import of_classes
from models.losses.targets import Targets

_POOLS = (4, 2, 1)


class OneForAll(FeatureLoss):
    """Target-enhanced cross-entropy of each stage's logits, added over the stages; one value a sample [N].

        -sum_c [(p_t + 1_y)^epsilon - 1_y] log p_s

    p_t is the mean of the teachers' probabilities, both sides at `temperature`, without its square, as in the authors'
    code. 1_y is one at the label, and zero throughout for an unlabelled image [our reading]; for a mixed image the
    losses of both labels are weighted by their shares. A stage's projector is a mean over positions and a linear layer
    [our reading; the authors use convolutions there]. The student's own head is no stage: it has a term of its own in
    the objective.

    Args:
        epsilon: exponent; 1: soft cross-entropy; above 1 the weight of the label grows with the teacher's confidence.
    """

    def __init__(
        self,
        own: list[Shape],
        theirs: list[Shape],
        *,
        classes: int,
        samples: int,
        temperature: float,
        epsilon: float,
    ) -> None:
        super().__init__()
        self._temperature, self._epsilon = temperature, epsilon
        self.projectors = nn.ModuleList(nn.Linear(shape[0], classes) for shape in own)

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class.

        Raises:
            ValueError: there are no teachers' logits.
        """
        if targets.teacher_KBC is None:
            raise ValueError("ofa reads the teachers' logits, and this training has none")
        t_NC = (targets.teacher_KBC / self._temperature).softmax(-1).mean(0)
        stages = [project(as_vector(x_N)) for project, x_N in zip(self.projectors, own, strict=True)]
        log_SNC = (torch.stack(stages) / self._temperature).log_softmax(-1)
        is_labelled_N1 = targets.labelled_B[:, None].to(t_NC.dtype)

        def loss(label_N: Tensor) -> Tensor:
            y_NC = F.one_hot(label_N, t_NC.shape[1]) * is_labelled_N1
            return -(((t_NC + y_NC) ** self._epsilon - y_NC) * log_SNC).sum(dim=(0, 2))

        return of_classes(loss, targets, unlabelled=True)


class Review(FeatureLoss):
    """Fused stages of the student against the teacher's, from deep to shallow; one value a sample [N].

    Each stage of the student is projected to `width` channels and fused with the result of the deeper stage (the
    paper's attention-based fusion, ABF); the fused map is passed to the shallower stage and, after a 3x3 convolution to
    the teacher's channels, compared with the teacher's stage by the hierarchical context loss (HCL). The losses of
    the stages are added. With S stages of the student and T of the teacher the last min(S, T) are paired [our reading].
    The authors also review the pooled vector; here only stages are used.

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
        pairs = reversed(pair_deepest(own, theirs))
        self.fusions = nn.ModuleList(_Fusion(s[0], width, t[0], first=i == 0) for i, (s, t) in enumerate(pairs))

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class."""
        losses, deeper = [], None
        for fusion, (own_N, theirs_N) in zip(self.fusions, reversed(pair_deepest(own, theirs)), strict=True):
            theirs_NDHW = as_map(theirs_N)
            fused_NDHW, deeper = fusion(as_map(own_N), deeper, theirs_NDHW.shape[2:])
            losses.append(context_loss(fused_NDHW, theirs_NDHW))
        return torch.stack(losses).sum(0)


class _Fusion(nn.Module):
    """The paper's ABF: learned weights of this stage and of the deeper one at each position."""

    def __init__(self, c_own: int, width: int, c_theirs: int, *, first: bool) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(c_own, width, 1, bias=False), SafeBatchNorm(width))
        self.attend = None if first else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        self.widen = nn.Sequential(nn.Conv2d(width, c_theirs, 3, padding=1, bias=False), SafeBatchNorm(c_theirs))

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

    Weights 1, 1/2, 1/4, 1/8, divided by their sum. Averages that are not smaller than the map are left out, and the
    weights of the others halve in order, as in the authors' code.
    """
    levels = [(own_NDHW, theirs_NDHW)]
    for pool in _POOLS:
        if pool < min(own_NDHW.shape[2:]):
            levels.append((pooled_to(own_NDHW, (pool, pool)), pooled_to(theirs_NDHW, (pool, pool))))
    errors_LN = torch.stack([squared_error(a, b) for a, b in levels])
    weight_L1 = 0.5 ** torch.arange(len(levels), dtype=errors_LN.dtype, device=errors_LN.device)[:, None]
    return (errors_LN * weight_L1).sum(0) / weight_L1.sum()
