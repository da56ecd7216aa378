"""Losses on labels: the student's predictions against annotations.

Every loss takes the student's logits [N, C] and targets of N labelled rows and returns a loss a row [N]; of several
yes-or-no outputs the mean, see `models.losses.terms`. For a row that is mixed with a partner, the losses of both labels
are weighted by their shares (1710.09412); where one of the two has no label, the other keeps its share, so that mixing
with unlabelled images takes no label away [our reading]. Smoothing with s replaces the label's distribution by (1 - s)
times itself plus s times the uniform one, also in what is derived from the label.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.targets import Targets
from models.statistics.ordinal import cumulative_logits, grade_of_logits

LabelLoss = Callable[[Tensor, Targets], Tensor]


def label_loss(name: str, *, prior: tuple[float, ...], smoothing: float, **options: Any) -> LabelLoss:
    """A loss on labels as a function of the student's logits [N, C] and the targets; it returns [N].

    Args:
        name: cross_entropy, logit_adjusted, binary, cumulative or squared_grade.
        prior: share of every class among the labelled training images, [C]; empty: unknown.
        smoothing: of labels, 0 to 1.
        options: tau of logit_adjusted.

    Raises:
        ValueError: an unknown name, or logit_adjusted without a prior; in the returned function: labels of the other
        kind.
    """
    if name == "logit_adjusted":
        return partial(_logit_adjusted, log_prior=_log_prior(prior), smoothing=smoothing, tau=options["tau"])
    if name not in _PLAIN:
        raise ValueError(f"there is no loss {name!r} on labels; known: {', '.join((*_PLAIN, 'logit_adjusted'))}")
    return partial(_PLAIN[name], smoothing=smoothing)


def _cross_entropy(z_NC: Tensor, targets: Targets, *, smoothing: float) -> Tensor:
    def loss(label_N: Tensor) -> Tensor:
        return F.cross_entropy(z_NC, label_N, reduction="none", label_smoothing=smoothing)

    return of_classes(loss, targets)


def _logit_adjusted(
    z_NC: Tensor, targets: Targets, *, log_prior: tuple[float, ...], smoothing: float, tau: float
) -> Tensor:
    """Cross-entropy of z + tau log prior (2007.07314); inference uses the plain logits."""
    if len(log_prior) != z_NC.shape[1]:
        raise ValueError(f"logit_adjusted: the prior has {len(log_prior)} classes, the logits {z_NC.shape[1]}")
    return _cross_entropy(z_NC + tau * z_NC.new_tensor(log_prior), targets, smoothing=smoothing)


def _binary(z_NC: Tensor, targets: Targets, *, smoothing: float) -> Tensor:
    """Binary cross-entropy, mean over the known classes of a row."""
    if targets.labels_BC is None:
        raise ValueError("the binary loss needs a multilabel corpus; use cross_entropy")

    def loss(labels_NC: Tensor) -> Tensor:
        known = (labels_NC >= 0).to(z_NC.dtype)
        y = labels_NC.clamp(min=0).to(z_NC.dtype) * (1 - smoothing) + smoothing / 2
        each = F.binary_cross_entropy_with_logits(z_NC, y, reduction="none") * known
        return each.sum(1) / known.sum(1).clamp(min=1)

    return shared(loss, targets.labels_BC, targets.partner_labels_BC, targets.share_B)


def _cumulative(z_NC: Tensor, targets: Targets, *, smoothing: float) -> Tensor:
    """Binary cross-entropy of "worse than k", mean over the C - 1 thresholds; 0 for a single class."""
    classes = z_NC.shape[1]
    if classes == 1:
        return z_NC.sum(1) * 0.0
    threshold = torch.arange(classes - 1, device=z_NC.device)
    worse = cumulative_logits(z_NC)
    uniform = (classes - 1 - threshold).to(z_NC.dtype) / classes

    def loss(label_N: Tensor) -> Tensor:
        y = (label_N[:, None] > threshold).to(z_NC.dtype) * (1 - smoothing) + smoothing * uniform
        return F.binary_cross_entropy_with_logits(worse, y, reduction="none").mean(1)

    return of_classes(loss, targets)


def _squared_grade(z_NC: Tensor, targets: Targets, *, smoothing: float) -> Tensor:
    """Squared error of the expected grade, as a share of the whole scale.

    Divided by (C - 1)^2, as the weights of quadratic kappa are: a weight then means the same for 3 grades and for 5.
    """
    top = z_NC.shape[1] - 1
    grade = grade_of_logits(z_NC)

    def loss(label_N: Tensor) -> Tensor:
        y = label_N.to(z_NC.dtype) * (1 - smoothing) + smoothing * top / 2
        return ((grade - y) / max(top, 1)).square()

    return of_classes(loss, targets)


_PLAIN = {
    "cross_entropy": _cross_entropy,
    "binary": _binary,
    "cumulative": _cumulative,
    "squared_grade": _squared_grade,
}


def of_classes(loss: Callable[[Tensor], Tensor], targets: Targets, *, unlabelled: bool = False) -> Tensor:
    """A loss [N] of labels int64 [N], weighted over both labels of a mixed image.

    Args:
        unlabelled: the loss is asked about unlabelled images too, with any class as their label; else they cost 0.

    Raises:
        ValueError: the corpus is multilabel.
    """
    if targets.labels_BC is not None:
        raise ValueError("this loss needs one class an image, and the corpus is multilabel; use binary")

    def known(label_N: Tensor) -> Tensor:
        value_N = loss(label_N.clamp(min=0))
        return value_N if unlabelled else torch.where(label_N >= 0, value_N, torch.zeros_like(value_N))

    return shared(known, targets.label_B, targets.partner_label_B, targets.share_B)


def shared(loss: Callable[[Tensor], Tensor], own: Tensor, partner: Tensor | None, share_B: Tensor | None) -> Tensor:
    """The losses of an image's label and its partner's, weighted by their shares; [N]."""
    if partner is None or share_B is None:
        return loss(own)
    return share_B * loss(own) + (1 - share_B) * loss(partner)


def _log_prior(prior: tuple[float, ...]) -> tuple[float, ...]:
    """Logarithms of the shares; a class without labelled images gets the smallest share above zero.

    Its own share, zero, would be an infinite margin. [our reading]
    """
    seen = [share for share in prior if share > 0]
    if not seen:
        raise ValueError("logit_adjusted needs the class shares of the labelled training images; use cross_entropy")
    return tuple(torch.tensor(prior, dtype=torch.float64).clamp(min=min(seen)).log().tolist())
