"""Contrastive representation distillation (Tian et al. 2020, 1910.10699): the same image against many others.

Student and teacher are embedded in one space. The student's embedding of an image must distinguish the teacher's
embedding of that image from those of others, and vice versa. The others come from two memory banks with one embedding
for each image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import FeatureLoss, Shape, as_vector, only_tap
from models.losses.ranks import of_all_ranks
from models.losses.targets import Targets


class Contrastive(FeatureLoss):
    """Noise-contrastive loss against memory banks; one value a sample [N].

    With the anchor v, the partner's bank entry u_0 of the same image, those of m others u_1 .. u_m, and P(u) =
    exp(<v, u> / tau) / Z, P_n = 1 / samples:

        -log P(u_0) / (P(u_0) + m P_n) - sum_j log m P_n / (P(u_j) + m P_n)

    summed over both directions (student against the teacher's bank, teacher against the student's). An embedding is a
    linear layer and L2 normalisation; maps are averaged over their positions first. Z is estimated on the first batch
    and then fixed. After each training pass, bank entries become normalise(momentum * old + (1 - momentum) * new).

    The banks are buffers: 2 * samples * width * 4 bytes of memory and of every checkpoint (88,702 images at width 128:
    91 MB). All rows of a batch share one draw of negatives, except their own image; with `negatives` no smaller than
    the number of other images, all of them are used once [our reading: the authors draw anew for each row, and among
    images of other classes, which unlabelled images do not have].

    In a torch.distributed group every rank must call it in every step, even without rows, because the banks store the
    embeddings of all ranks.

    Args:
        width: of the embedding.
        negatives: other images that each anchor is contrasted with.
        tau: temperature of the scores.
        momentum: share of a bank's old entry in the new one.

    Raises:
        ValueError: several taps, or the number of training images is unknown; in `forward`: their indices are unknown.
    """

    collective = True

    student_bank: Tensor
    teacher_bank: Tensor
    log_partition: Tensor

    def __init__(
        self,
        own: list[Shape],
        theirs: list[Shape],
        *,
        classes: int,
        samples: int,
        temperature: float,
        width: int,
        negatives: int,
        tau: float,
        momentum: float,
    ) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError("crd stores an embedding of each image: it needs the number of images that may train")
        self._samples, self._negatives, self._tau, self._momentum = samples, negatives, tau, momentum
        self.embed_student = nn.Linear(only_tap("crd", own)[0], width)
        self.embed_teacher = nn.Linear(only_tap("crd", theirs)[0], width)
        # Entries of about unit length.
        bound = math.sqrt(3 / width)
        self.register_buffer("student_bank", torch.empty(samples, width).uniform_(-bound, bound))
        self.register_buffer("teacher_bank", torch.empty(samples, width).uniform_(-bound, bound))
        self.register_buffer("log_partition", torch.full((2,), math.nan))

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class; N may be 0."""
        index_N = targets.index_B
        if index_N is None:
            raise ValueError("crd needs the index of every row among the training images (Targets.index_B)")
        student_NW = F.normalize(self.embed_student(as_vector(own[0])))
        teacher_NW = F.normalize(self.embed_teacher(as_vector(theirs[0])))
        drawn_K = self._draw(index_N.device)
        is_other_NK = drawn_K != index_N[:, None]
        scores = [
            self._scores(student_NW, self.teacher_bank, index_N, drawn_K),
            self._scores(teacher_NW, self.student_bank, index_N, drawn_K),
        ]
        log_z = self._log_partition(scores, is_other_NK)
        loss_N = self._contrast(scores[0], is_other_NK, log_z[0]) + self._contrast(scores[1], is_other_NK, log_z[1])
        if self.training:
            self._update_banks(index_N, student_NW.detach(), teacher_NW.detach())
        return loss_N

    def _draw(self, device: torch.device) -> Tensor:
        if self._negatives >= self._samples - 1:
            return torch.arange(self._samples, device=device)
        return torch.randint(self._samples, (self._negatives,), device=device)

    def _scores(self, anchor_NW: Tensor, bank_MW: Tensor, index_N: Tensor, drawn_K: Tensor) -> Tensor:
        # Indexing copies, so that the banks may change before the backward pass.
        own_N1 = (anchor_NW * bank_MW[index_N]).sum(1, keepdim=True)
        return torch.cat([own_N1, anchor_NW @ bank_MW[drawn_K].T], dim=1) / self._tau

    def _contrast(self, scores_NJ: Tensor, is_other_NK: Tensor, log_z: Tensor) -> Tensor:
        count_N1 = is_other_NK.sum(1, keepdim=True).clamp(min=1).to(scores_NJ.dtype)
        # log P / (m P_n): its log-sigmoid equals the quotients of the formula with less rounding.
        odds_NJ = scores_NJ - log_z - (count_N1 / self._samples).log()
        apart_NK = torch.where(is_other_NK, F.logsigmoid(-odds_NJ[:, 1:]), 0.0)
        return -F.logsigmoid(odds_NJ[:, 0]) - apart_NK.sum(1)

    @torch.no_grad()
    def _log_partition(self, scores: list[Tensor], is_other_NK: Tensor) -> Tensor:
        if not bool(self.log_partition.isnan().any()):
            return self.log_partition
        taken_NJ = F.pad(is_other_NK, (1, 0), value=True)
        sums = [torch.where(taken_NJ, score_NJ, -math.inf).flatten().logsumexp(0) for score_NJ in scores]
        sums_R3 = of_all_ranks(torch.stack([*sums, taken_NJ.sum().to(sums[0].dtype)])[None])
        count = sums_R3[:, 2].sum()
        if not bool(count > 0):
            return self.log_partition
        found = sums_R3[:, :2].logsumexp(0) + math.log(self._samples) - count.log()
        if self.training:
            self.log_partition.copy_(found)
        return found

    @torch.no_grad()
    def _update_banks(self, index_N: Tensor, student_NW: Tensor, teacher_NW: Tensor) -> None:
        index_N, rows_N2W = of_all_ranks(index_N), of_all_ranks(torch.cat([student_NW, teacher_NW], dim=1))
        # For an image that a batch contains twice, the mean is stored: the order of writes is not deterministic.
        index_U, place_N, count_U = index_N.unique(return_inverse=True, return_counts=True)
        mean_U2W = rows_N2W.new_zeros(len(index_U), rows_N2W.shape[1]).index_add_(0, place_N, rows_N2W)
        mean_U2W /= count_U[:, None]
        for bank_MW, new_UW in zip((self.student_bank, self.teacher_bank), mean_U2W.chunk(2, dim=1), strict=True):
            kept_UW = self._momentum * bank_MW[index_U] + (1 - self._momentum) * new_UW
            bank_MW[index_U] = F.normalize(kept_UW).to(bank_MW.dtype)
