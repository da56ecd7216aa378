"""Weights of several teachers in one loss: uniform, by entropy or confidence for each row, or by gradients (AE-KD)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.labels import label_loss
from models.losses.ranks import sum_of_ranks
from models.losses.targets import Targets

KINDS = ("average", "entropy", "confidence", "aekd")

_CAP = 0.6
"""Largest share of a teacher in AE-KD (its C)."""

_STEPS = 10_000
_TOLERANCE = 1e-10


def shares(kind: str, losses: Tensor, z_NC: Tensor, t_KNC: Tensor | None, targets: Targets) -> Tensor:
    """Weights of K teachers in the loss of each of N rows, [K, N], detached; every column sums to 1.

    Args:
        kind: average; entropy (EBKD) and confidence (CA-MKD, 2201.00007), a weight for each row; aekd (Du et
            al., NeurIPS 2020), a weight for the batch of all ranks, which must all call it.
        losses: of each teacher, [K, N], or [K] where the loss is a scalar for the batch; for aekd in the graph of
            `z_NC`.
        z_NC: the student's logits.
        t_KNC: the teachers' raw logits; for entropy and confidence.
        targets: of the N rows.

    Raises:
        ValueError: an unknown kind, no teachers' logits where they are needed, or aekd for losses that do not come
            from the student's logits.
    """
    count, rows = len(losses), len(z_NC)
    uniform_KN = z_NC.new_full((count, rows), 1 / count)
    if kind not in KINDS:
        raise ValueError(f"there is no sharing {kind!r} among teachers; known: {', '.join(KINDS)}")
    if kind == "average" or count == 1:
        return uniform_KN
    if kind == "aekd":
        return _min_norm(losses, z_NC, targets)[:, None].expand(count, rows)
    if t_KNC is None:
        raise ValueError(f"sharing by {kind} reads the teachers' logits, and there are none; use average")
    with torch.no_grad():
        return _by_entropy(t_KNC, targets) if kind == "entropy" else _by_confidence(t_KNC, targets)


def _by_entropy(t_KNC: Tensor, targets: Targets) -> Tensor:
    """w_k = (1 - H_k / sum H) / (K - 1): larger for lower entropy; uniform where all entropies are 0.

    For a multilabel corpus H is the sum of the binary entropies over classes. [our reading]
    """
    if targets.labels_BC is None:
        log_p = F.log_softmax(t_KNC, dim=-1)
        entropy_KN = -(log_p.exp() * log_p).sum(-1)
    else:
        sides = ((torch.sigmoid(t) * F.logsigmoid(t)).sum(-1) for t in (t_KNC, -t_KNC))
        entropy_KN = -sum(sides, t_KNC.new_zeros(()))
    return _decreasing_weights(entropy_KN)


def _by_confidence(t_KNC: Tensor, targets: Targets) -> Tensor:
    """w_k = (1 - softmax_k(CE of teacher k and the label)) / (K - 1); uniform on unlabelled rows. [our reading]"""
    name = "cross_entropy" if targets.labels_BC is None else "binary"
    error = label_loss(name, prior=(), smoothing=0.0)
    error_KN = torch.stack([error(t_NC, targets) for t_NC in t_KNC])
    known_N = targets.labelled_B
    return _decreasing_weights(torch.where(known_N, error_KN.softmax(0), torch.ones_like(error_KN)))


def _decreasing_weights(size_KN: Tensor) -> Tensor:
    count, total_N = len(size_KN), size_KN.sum(0)
    relative_KN = torch.where(total_N > 0, size_KN / torch.where(total_N > 0, total_N, 1.0), 1 / count)
    return (1 - relative_KN) / (count - 1)


def _min_norm(losses: Tensor, z_NC: Tensor, targets: Targets) -> Tensor:
    """Weights [K] that minimise the norm of the weighted sum of gradients with respect to the student's logits.

    Each is at most max(0.6, 1 / K). Without gradients (as in validation) the weights are uniform.
    """
    count = len(losses)
    if not losses.requires_grad:
        return z_NC.new_full((count,), 1 / count)
    weight = torch.ones_like(losses[0]) if losses.ndim == 1 else targets.weight_B.to(losses.dtype)
    gradients = []
    for loss in losses:
        found = None
        if z_NC.requires_grad:
            found = torch.autograd.grad(loss, z_NC, weight, retain_graph=True, allow_unused=True)[0]
        if found is None:
            raise ValueError(
                "aekd compares gradients with respect to the student's logits, and this loss does not come from them; "
                "use average, entropy or confidence"
            )
        gradients.append(found.flatten())
    stacked = torch.stack(gradients).double()
    gram = sum_of_ranks(stacked @ stacked.T).cpu().numpy()
    return torch.as_tensor(min_norm_point(gram, max(_CAP, 1 / count)), dtype=z_NC.dtype, device=z_NC.device)


def min_norm_point(gram: np.ndarray, cap: float) -> np.ndarray:
    """The w that minimises w' G w with 0 <= w <= cap and sum 1, float64 [K].

    Sequential minimal optimisation from uniform weights (Platt 1998): each step moves weight between the pair of
    teachers with the largest gain. Where several w are equally good, the result stays near uniform.

    Args:
        gram: G, [K, K], symmetric and positive semi-definite.
        cap: at least 1 / K.
    """
    count = len(gram)
    share = np.full(count, 1 / count)
    scale = np.trace(gram)
    if not scale > 0:
        return share
    gram = gram / scale
    for _ in range(_STEPS):
        slope = gram @ share
        up = int(np.where(share < cap * (1 - _TOLERANCE), slope, np.inf).argmin())
        down = int(np.where(share > 0, slope, -np.inf).argmax())
        gain = slope[down] - slope[up]
        if gain <= _TOLERANCE:
            break
        curve = gram[up, up] + gram[down, down] - 2 * gram[up, down]
        room = min(share[down], cap - share[up])
        step = room if gain >= curve * room else gain / curve
        share[up] += step
        share[down] -= step
    return share
