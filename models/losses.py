"""Training objectives: terms on labels and on stored soft labels, composed as a weighted sum.

Shapes: B samples, C classes, K teachers. `z_BC` are the student's logits, `t_KBC` the teachers' raw logits.
Each term returns a loss a sample [B] and a mask [B] of the samples that it sees. The objective sums what a term
sees and divides by the weight of the whole batch: an image counts the same whatever batch it falls into, the label
term of a batch with few labelled images is small, and that of a batch without any is zero instead of NaN.

A picture that is mixed with a partner's has both labels, each with its share (1710.09412, 1905.04899). Terms on soft
labels know nothing of it: the teachers saw the mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.terms import NEEDS_TEACHER, Term


@dataclass(frozen=True)
class Targets:
    """What a batch teaches."""

    label_B: Tensor  # int64, -1 unlabelled (single, ordinal)
    labels_BC: Tensor | None  # float32, -1 unknown (multilabel)
    teacher_KBC: Tensor | None  # float32 raw logits
    valid_B: Tensor  # bool: the teachers' rows may be used
    weight_B: Tensor  # float32, from select
    partner_label_B: Tensor | None = None  # as label_B, of who is mixed in; None: nobody is mixed with anybody
    partner_labels_BC: Tensor | None = None
    share_B: Tensor | None = None  # float32, of the sample's own picture; 1: mixed with nobody's

    @property
    def labelled_B(self) -> Tensor:
        """bool [B]: at least one known label, of both pictures where two are mixed."""
        own = _labelled(self.label_B, self.labels_BC)
        if self.share_B is None or self.partner_label_B is None:
            return own
        return own & ((self.share_B == 1) | _labelled(self.partner_label_B, self.partner_labels_BC))


def cross_entropy(z_BC: Tensor, targets: Targets, *, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy on labels, unlabelled samples masked."""

    def loss(label_B: Tensor) -> Tensor:
        return F.cross_entropy(z_BC, label_B.clamp(min=0), reduction="none", label_smoothing=smoothing)

    return _shared(loss, targets.label_B, targets.partner_label_B, targets.share_B), targets.labelled_B


def binary(z_BC: Tensor, targets: Targets, *, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Per-class binary cross-entropy on labels, mean over the known classes of a sample."""
    if targets.labels_BC is None:
        raise ValueError("the binary loss needs a multilabel corpus; use cross_entropy")

    def loss(labels_BC: Tensor) -> Tensor:
        known = (labels_BC >= 0).to(z_BC.dtype)
        y = labels_BC.clamp(min=0) * (1 - smoothing) + smoothing / 2
        each = F.binary_cross_entropy_with_logits(z_BC, y, reduction="none") * known
        return each.sum(1) / known.sum(1).clamp(min=1)

    return _shared(loss, targets.labels_BC, targets.partner_labels_BC, targets.share_B), targets.labelled_B


def kl(z_BC: Tensor, targets: Targets, *, temperature: float) -> tuple[Tensor, Tensor]:
    """T^2 KL(softmax(t/T) || softmax(z/T)), mean over teachers (Hinton et al. 2015, 1503.02531)."""
    t_KBC = _teachers(targets)
    log_q = F.log_softmax(z_BC / temperature, dim=-1)
    log_p = F.log_softmax(t_KBC / temperature, dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1).mean(0)
    return divergence * temperature**2, targets.valid_B


def soft_binary(z_BC: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Per-class binary KL([p, 1-p] || [q, 1-q]) on sigmoids, sum over classes (2308.06453, MLD term)."""
    p = torch.sigmoid(_teachers(targets))
    z = z_BC.expand_as(p)
    cross = F.binary_cross_entropy_with_logits(z, p, reduction="none")
    entropy = F.binary_cross_entropy(p, p, reduction="none")
    return (cross - entropy).sum(-1).mean(0), targets.valid_B


def _labelled(label_B: Tensor, labels_BC: Tensor | None) -> Tensor:
    return label_B >= 0 if labels_BC is None else (labels_BC >= 0).any(1)


def _shared(loss: Callable[[Tensor], Tensor], own: Tensor, partner: Tensor | None, share_B: Tensor | None) -> Tensor:
    if partner is None or share_B is None:
        return loss(own)
    return share_B * loss(own) + (1 - share_B) * loss(partner)


def _teachers(targets: Targets) -> Tensor:
    if targets.teacher_KBC is None:
        raise ValueError("this loss needs soft labels, and this training has none")
    return targets.teacher_KBC


def term_function(term: Term) -> Callable[[Tensor, Targets], tuple[Tensor, Tensor]]:
    """The term as a function of logits and targets."""
    if term.loss == "cross_entropy":
        return lambda z, t: cross_entropy(z, t, smoothing=term.smoothing)
    if term.loss == "binary":
        return lambda z, t: binary(z, t, smoothing=term.smoothing)
    if term.loss == "kl":
        return lambda z, t: kl(z, t, temperature=term.temperature)
    if term.loss == "soft_binary":
        return soft_binary
    raise ValueError(f"unknown loss {term.loss!r}; known: {', '.join(sorted(NEEDS_TEACHER))}")


class Objective:
    """A weighted sum of terms; returns the total and each part by name."""

    def __init__(self, terms: Sequence[Term]) -> None:
        if not terms:
            raise ValueError("an objective needs at least one term")
        self.terms = list(terms)
        self._functions = [term_function(term) for term in terms]

    @property
    def needs_teacher(self) -> bool:
        """Whether some term reads soft labels."""
        return any(NEEDS_TEACHER[term.loss] for term in self.terms)

    def __call__(self, z_BC: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss (scalar, float32) and the unweighted parts (detached scalars)."""
        z_BC = z_BC.float()
        total = z_BC.new_zeros(())
        parts: dict[str, Tensor] = {}
        for term, function in zip(self.terms, self._functions, strict=True):
            loss_B, mask_B = function(z_BC, targets)
            if term.where == "labelled":
                mask_B = mask_B & targets.labelled_B
            weight_B = targets.weight_B * mask_B
            # The mask must select, not multiply: 0 * NaN of a row that is no use would still be NaN.
            kept = torch.where(mask_B, loss_B, torch.zeros_like(loss_B))
            value = (kept * weight_B).sum() / targets.weight_B.sum().clamp(min=1e-12)
            total = total + term.weight * value
            parts[term.loss] = value.detach()
        return total, parts
