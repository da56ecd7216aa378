"""Losses on relations between the samples of a batch: similarities, distances and angles of their features.

They need no projector, whatever the widths. Each is one scalar for the batch, over all ranks where there are several,
and 0 for a batch of one. Several taps are paired from the deepest and summed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.feature_losses.base import BatchLoss, Shape, as_vector, pair_deepest, unit

_TINY = 1e-12
_LEAST = 1e-7


class _Relations(BatchLoss):
    def __init__(self, own: list[Shape], theirs: list[Shape], **_: object) -> None:
        super().__init__()

    def of_batch(self, own: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """A scalar; 0 for equal relations."""
        return torch.stack([self._distance(ours, teachers) for ours, teachers in pair_deepest(own, theirs)]).sum()

    def _distance(self, ours: Tensor, teachers: Tensor) -> Tensor:
        raise NotImplementedError


class Similarity(_Relations):
    """Similarity-preserving distillation (Tung and Mori 2019, 1907.09682).

    Squared Frobenius distance of the Gram matrices of flattened maps, their rows divided by their L2 norms, over N^2.
    """

    def _distance(self, ours: Tensor, teachers: Tensor) -> Tensor:
        return (_gram(ours) - _gram(teachers)).square().mean()


class Probabilistic(_Relations):
    """Probabilistic knowledge transfer (Passalis and Tefas 2018, 1803.10837).

    A row of (cosine similarity + 1) / 2, divided by its sum, is a distribution over the batch; the loss is the sum
    over rows of KL(teacher || student) over N^2. The mean over N^2 and the sample itself in its row follow the
    authors' code, for which the weight was published; the paper leaves the sample itself out. Maps are averaged
    over their positions.
    """

    def _distance(self, ours: Tensor, teachers: Tensor) -> Tensor:
        p_NN, q_NN = _shares(teachers), _shares(ours)
        return (p_NN * (p_NN.log() - q_NN.log())).mean()


class Relational(_Relations):
    """Relational knowledge distillation (Park et al. 2019, 1904.05068).

    Huber losses (threshold 1) between student and teacher of the distances of all pairs, divided by their mean over the
    pairs that are apart, and of the cosines of the angles of all triplets; means over N^2 and N^3 with the degenerate
    ones, which are 0, as in the authors' code. Maps are averaged over their positions. Memory: a few times 4 N^2 D and
    4 N^3 bytes.

    Args:
        distance: weight of the distances.
        angle: weight of the angles; 0 leaves them out.
    """

    def __init__(
        self, own: list[Shape], theirs: list[Shape], *, distance: float = 25.0, angle: float = 50.0, **_: object
    ) -> None:
        super().__init__(own, theirs)
        self._weights = (distance, angle)

    def _distance(self, ours: Tensor, teachers: Tensor) -> Tensor:
        # Differences, not Gram matrices, which lose the distances of close samples in rounding.
        ours_NND, teachers_NND = _differences(ours), _differences(teachers)
        distance, angle = self._weights
        value = distance * F.smooth_l1_loss(_spacing(ours_NND), _spacing(teachers_NND))
        if angle:
            value = value + angle * F.smooth_l1_loss(_cosines(ours_NND), _cosines(teachers_NND))
        return value


def _gram(features_N: Tensor) -> Tensor:
    flat_NP = features_N.flatten(1)
    return unit(flat_NP @ flat_NP.T, _TINY)


def _shares(features_N: Tensor) -> Tensor:
    unit_ND = unit(as_vector(features_N), _TINY)
    # Opposite features have a share of 0 or, rounded, less, without a logarithm. Clamping, unlike adding a constant,
    # leaves equal features without gradient.
    similarity_NN = (0.5 * (unit_ND @ unit_ND.T + 1)).clamp(min=_LEAST)
    return similarity_NN / similarity_NN.sum(1, keepdim=True)


def _differences(features_N: Tensor) -> Tensor:
    """[i, j]: from sample i to sample j."""
    vectors_ND = as_vector(features_N)
    return vectors_ND[None] - vectors_ND[:, None]


def _spacing(differences_NND: Tensor) -> Tensor:
    lengths_NN = torch.linalg.vector_norm(differences_NND, dim=2)
    apart = (lengths_NN.detach() > _TINY).sum().clamp(min=1)
    mean = lengths_NN.sum() / apart
    return lengths_NN / torch.where(mean > _TINY, mean, 1.0)


def _cosines(differences_NND: Tensor) -> Tensor:
    """[i, j, k]: cosine of the angle at sample i between samples j and k; 0 where one of them is sample i."""
    unit_NND = unit(differences_NND, _TINY)
    return unit_NND @ unit_NND.transpose(1, 2)
