"""Losses on a teacher's logits: the student's [N, C] against one teacher's [N, C], a loss a row [N].

A loss of several yes-or-no outputs is the mean over them, as on labels; see `models.losses.terms`. Divergences at a
temperature T carry the factor T^2, so that the size of their gradients does not depend on T (Hinton
et al. 2015). The teacher's input is the same image, mixed or not; only losses that need a label use the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.labels import shared
from models.losses.ranks import of_all_ranks, of_own_rows, with_other_ranks
from models.losses.targets import Targets
from models.statistics.ordinal import cumulative_logits, grade_of_logits

LogitLoss = Callable[[Tensor, Tensor, Targets], Tensor]

_CONSTANT = 1e-6
"""Norm of centred probabilities below which they count as constant: float32 cannot resolve a correlation."""


def logit_loss(name: str, *, temperature: float, **options: Any) -> LogitLoss:
    """A loss on logits as a function of the student's [N, C], a teacher's [N, C] and the targets; it returns [N].

    Args:
        name: kl, dkd, dist, logit_mse, soft_cross_entropy, soft_binary, cumulative_kl or grade_mse.
        temperature: of losses that have one; others ignore it.
        options: alpha and beta of dkd, beta and gamma of dist.

    Raises:
        ValueError: an unknown name.
    """
    if name in _WITHOUT_TEMPERATURE:
        return _WITHOUT_TEMPERATURE[name]
    if name not in _WITH_TEMPERATURE:
        known = ", ".join((*_WITH_TEMPERATURE, *_WITHOUT_TEMPERATURE))
        raise ValueError(f"there is no loss {name!r} on logits; known: {known}")
    return partial(_WITH_TEMPERATURE[name], temperature=temperature, **options)


def standardised(z: Tensor) -> Tensor:
    """Logits [..., C] with mean 0 and standard deviation 1 in each row (2403.01427, algorithm 1).

    The deviation is that of the population, as in the paper; its code divides by C - 1 instead, which equals another
    temperature.
    """
    centred = z - z.mean(-1, keepdim=True)
    return centred / (z.std(-1, correction=0, keepdim=True) + 1e-7)


def binary_divergence(t: Tensor, z: Tensor) -> Tensor:
    """KL([p, 1 - p] || [q, 1 - q]) of p = sigmoid(t), q = sigmoid(z), element by element."""
    p, rest = torch.sigmoid(t), torch.sigmoid(-t)
    return p * (F.logsigmoid(t) - F.logsigmoid(z)) + rest * (F.logsigmoid(-t) - F.logsigmoid(-z))


def _kl(z_NC: Tensor, t_NC: Tensor, targets: Targets, *, temperature: float) -> Tensor:
    """T^2 KL(softmax(t/T) || softmax(z/T)) (1503.02531)."""
    return _divergence(t_NC / temperature, z_NC / temperature) * temperature**2


def _soft_cross_entropy(z_NC: Tensor, t_NC: Tensor, targets: Targets, *, temperature: float) -> Tensor:
    """T^2 cross-entropy of softmax(z/T) under softmax(t/T): kl plus the teacher's entropy, and kl's gradient."""
    p = F.softmax(t_NC / temperature, dim=-1)
    return -(p * F.log_softmax(z_NC / temperature, dim=-1)).sum(-1) * temperature**2


def _dkd(z_NC: Tensor, t_NC: Tensor, targets: Targets, *, temperature: float, alpha: float, beta: float) -> Tensor:
    """T^2 (alpha KL of target against the rest + beta KL among the rest) (2203.08679).

    For an unlabelled row the teacher's class is the target. For a mixed image the losses of both labels are weighted
    by their shares. [our reading]
    """
    classes = z_NC.shape[1]
    if classes == 1:
        return z_NC.sum(1) * 0.0
    z_NC, t_NC = z_NC / temperature, t_NC / temperature
    column = torch.arange(classes - 1, device=z_NC.device)

    def loss(label_N: Tensor) -> Tensor:
        target_N = torch.where(label_N >= 0, label_N, t_NC.argmax(-1))[:, None]
        others = column + (column >= target_N)
        rest_z, rest_t = (x.gather(1, others) for x in (z_NC, t_NC))
        own_z, own_t = (x.gather(1, target_N).squeeze(1) for x in (z_NC, t_NC))
        on_target = binary_divergence(own_t - rest_t.logsumexp(-1), own_z - rest_z.logsumexp(-1))
        return (alpha * on_target + beta * _divergence(rest_t, rest_z)) * temperature**2

    return shared(loss, targets.label_B, targets.partner_label_B, targets.share_B)


def _dist(z_NC: Tensor, t_NC: Tensor, targets: Targets, *, temperature: float, beta: float, gamma: float) -> Tensor:
    """T^2 (beta (1 - correlation over a row's classes) + gamma (1 - correlation over a class's rows)) (2205.10536).

    The second part is one number for the rows of all ranks, the mean over classes, added to every row. With two classes
    the first part is 0 or 2 and has no gradient; `models.losses.terms.check_classes` refuses it there. Where several
    teachers share by rows (entropy, confidence), the second part takes the mean share of its rank's rows.
    """
    q, p = F.softmax(z_NC / temperature, dim=-1), F.softmax(t_NC / temperature, dim=-1)
    value_N = beta * (1 - _correlation(q, p))
    if gamma:
        every_q, every_p = with_other_ranks(q), of_all_ranks(p)
        if len(every_q):
            of_classes = 1 - _correlation(every_q.T, every_p.T).mean()
            value_N = value_N + gamma * of_own_rows(of_classes, targets.weight_B)
    return value_N * temperature**2


def _logit_mse(z_NC: Tensor, t_NC: Tensor, targets: Targets) -> Tensor:
    """Mean squared difference of the logits over classes (1312.6184, without its half).

    Softmax ignores a common offset of the logits of a row, so the mean of each row is subtracted first. A sigmoid does
    not ignore it: logits of multilabel corpora stay as they are. [our reading]
    """
    gap = z_NC - t_NC
    if targets.labels_BC is None:
        gap = gap - gap.mean(-1, keepdim=True)
    return gap.square().mean(-1)


def _soft_binary(z_NC: Tensor, t_NC: Tensor, targets: Targets) -> Tensor:
    """Mean over classes of the binary divergences (2308.06453, whose MLD is their sum: C times this)."""
    return binary_divergence(t_NC, z_NC).mean(-1)


def _cumulative_kl(z_NC: Tensor, t_NC: Tensor, targets: Targets, *, temperature: float) -> Tensor:
    """T^2 times the mean over C - 1 thresholds of the binary divergence of "worse than k"; 0 for a single class.

    The temperature applies to the class logits first, so that the thresholds stay consistent. [our reading]
    """
    if z_NC.shape[1] == 1:
        return z_NC.sum(1) * 0.0
    t, z = cumulative_logits(t_NC / temperature), cumulative_logits(z_NC / temperature)
    return binary_divergence(t, z).mean(-1) * temperature**2


def _grade_mse(z_NC: Tensor, t_NC: Tensor, targets: Targets) -> Tensor:
    """Squared difference of the expected grades, as a share of the whole scale as in squared_grade."""
    return ((grade_of_logits(z_NC) - grade_of_logits(t_NC)) / max(z_NC.shape[1] - 1, 1)).square()


_WITH_TEMPERATURE: dict[str, Callable[..., Tensor]] = {
    "kl": _kl,
    "dkd": _dkd,
    "dist": _dist,
    "soft_cross_entropy": _soft_cross_entropy,
    "cumulative_kl": _cumulative_kl,
}
_WITHOUT_TEMPERATURE: dict[str, LogitLoss] = {
    "logit_mse": _logit_mse,
    "soft_binary": _soft_binary,
    "grade_mse": _grade_mse,
}


def _divergence(t: Tensor, z: Tensor) -> Tensor:
    """KL(softmax(t) || softmax(z)) over the last dimension."""
    log_p, log_q = F.log_softmax(t, dim=-1), F.log_softmax(z, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _correlation(q: Tensor, p: Tensor) -> Tensor:
    """Pearson correlation of rows [M, L] -> [M]: 1 where both are constant, 0 where one is."""
    q, p = q - q.mean(-1, keepdim=True), p - p.mean(-1, keepdim=True)
    flat_q, flat_p = (x.detach().norm(dim=-1) < _CONSTANT for x in (q, p))
    either = flat_q | flat_p
    # Replaced before the norm, not after: the gradient of a norm at zero is not finite, and times zero still is not.
    safe_q, safe_p = (torch.where(either[:, None], torch.ones_like(x), x) for x in (q, p))
    correlation = F.cosine_similarity(safe_q, safe_p, dim=-1, eps=0.0)
    return torch.where(either, (flat_q & flat_p).to(q.dtype), correlation)
