"""Training objectives: terms on labels, on teachers' logits and on features, composed as a weighted sum.

Shapes: B samples of a batch, N of them that a term sees, C classes, K teachers. A term gets its N rows only (N >= 1),
so no formula handles unused rows. It returns a loss a sample [N], or one for all of them. The objective divides
by the weight of the whole batch: an image counts the same whatever its batch, the label term of a batch with few
labelled images is small, and that of a batch without any is zero instead of NaN. Terms that read a batch as a whole
(`Term.needs_whole_batch`) see the rows of all ranks; see `models.losses.ranks`.

An image that is mixed with a partner has both labels, each with its share (1710.09412, 1905.04899). Terms on teachers
do not depend on it: the teachers' inputs were the mixed images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.registry import feature_loss
from models.losses.labels import label_loss
from models.losses.logits import logit_loss, standardised
from models.losses.ranks import sum_of_ranks
from models.losses.sharing import shares
from models.losses.targets import Targets
from models.losses.terms import LOGIT_DISTANCES, Term, check_classes, full_options
from models.training.rescale import Rescale


@dataclass(frozen=True)
class Setting:
    """Facts of a training that losses depend on.

    Attributes:
        classes: C; 0: unknown.
        prior: share of every class among the labelled training images, [C]; empty: unknown.
        samples: images that may train, for memory banks.
        student: shape of each of the student's taps by name, (D,) or (D, H, W).
        teachers: the same of each teacher, in the order of K.
        names: of the teachers, in the order of K.
    """

    classes: int
    prior: tuple[float, ...] = ()
    samples: int = 0
    student: Mapping[str, Shape] = field(default_factory=dict)
    teachers: tuple[Mapping[str, Shape], ...] = ()
    names: tuple[str, ...] = ()


class Objective(nn.Module):
    """A weighted sum of terms. Its parameters (projectors, regressors) are trained with the student and then dropped.

    Args:
        terms: their taps resolved to the names that `maps` and `Targets.maps` use.
        setting: facts of the training; needed by terms on features and on the prior.

    Raises:
        ValueError: no term, an unknown loss or option, missing taps, a missing prior, a loss that needs more classes.
    """

    def __init__(self, terms: Sequence[Term], setting: Setting | None = None) -> None:
        super().__init__()
        if not terms:
            raise ValueError("an objective needs at least one term")
        self.terms = list(terms)
        setting = setting or Setting(classes=0)
        for term in self.terms:
            if setting.classes:
                check_classes(term, setting.classes)
        self.parts = nn.ModuleList(_part(term, setting) for term in self.terms)
        self.titles = _titles(self.terms)
        measured = [i for i, term in enumerate(self.terms) if term.rescale]
        against = next((i for i, term in enumerate(self.terms) if _is_reference(term) and not term.rescale), None)
        self.rescale = (
            None if not measured or against is None else Rescale(measured, against, self.terms[against].weight)
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether some term reads anything of a teacher."""
        return any(term.needs_teacher for term in self.terms)

    def rows(self, targets: Targets) -> list[Tensor | None]:
        """The rows of each term, int64 [N]; None: all.

        Computed from targets in host memory, so that `forward` need not wait for a device.
        """
        return [_rows(term, targets) for term in self.terms]

    def forward(
        self,
        z_BC: Tensor,
        targets: Targets,
        *,
        done: float = 0.0,
        maps: Mapping[str, Tensor] | None = None,
        student: Sequence[nn.Parameter] = (),
        total_weight: Tensor | None = None,
        rows: Sequence[Tensor | None] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss (scalar, float32) and the unweighted parts by title (detached scalars).

        Args:
            z_BC: the student's logits.
            done: share of the training that is done, 0 to 1, for schedules.
            maps: the student's features by tap, [B, D] or [B, D, H, W].
            student: its parameters, for terms that are rescaled by the norms of their gradients.
            total_weight: the divisor where the batch is a part of a larger one; default: its own weight.
            rows: result of the method `rows` for the same targets, on this device; default: it is called.
        """
        z_BC = z_BC.float()
        weight = targets.weight_B.sum() if total_weight is None else total_weight
        weight = weight.clamp(min=1e-12)
        values, parts = [], {}
        seen = self.rows(targets) if rows is None else rows
        for title, part, index_N in zip(self.titles, self.parts, seen, strict=True):
            value = _value(part, z_BC, targets, maps or {}, weight, index_N)
            values.append(value)
            parts[title] = value.detach()
        factors = [term.weight * term.factor(done) for term in self.terms]
        if self.rescale is not None:
            scales = self.rescale(values, [f > 0 for f in factors], student)
            factors = [factor * scale for factor, scale in zip(factors, scales, strict=True)]
        total = z_BC.new_zeros(())
        for value, factor in zip(values, factors, strict=True):
            # Times zero, not left out: data parallelism waits for a gradient of every parameter.
            total = total + factor * value
        return total, parts


Part = Callable[[Tensor, Targets, Mapping[str, Tensor]], Tensor]


def _value(
    part: nn.Module,
    z_BC: Tensor,
    targets: Targets,
    maps: Mapping[str, Tensor],
    weight: Tensor,
    index_N: Tensor | None,
) -> Tensor:
    if index_N is not None and not len(index_N) and not (isinstance(part, _Part) and part.collective):
        # Keeps every parameter in the graph; see above.
        return z_BC.sum() * 0.0 + sum((p.sum() * 0.0 for p in part.parameters()), z_BC.new_zeros(()))
    if index_N is not None:
        z_BC, targets = z_BC.index_select(0, index_N), targets.rows(index_N)
        maps = {tap: map_B.index_select(0, index_N) for tap, map_B in maps.items()}
    loss: Tensor = part(z_BC, targets, maps)
    own = targets.weight_B
    return (loss * own).sum() / weight if loss.ndim else loss * own.sum() / weight


def _is_reference(term: Term) -> bool:
    """Whether rescaled terms may be measured against it: a term without weight does not pull at all."""
    return term.loss in LOGIT_DISTANCES and term.weight > 0


def _rows(term: Term, targets: Targets) -> Tensor | None:
    seen_B = targets.weight_B > 0
    if term.info.reads == "labels":
        seen_B = seen_B & (targets.known_share_B > 0)
    elif term.where == "labelled":
        seen_B = seen_B & targets.labelled_B
    elif term.where == "unlabelled":
        seen_B = seen_B & ~targets.labelled_B
    if term.needs_teacher:
        seen_B = seen_B & targets.valid_B
    return None if bool(seen_B.all()) else seen_B.nonzero().squeeze(1)


def _part(term: Term, setting: Setting) -> nn.Module:
    options = full_options(term)
    if term.info.reads == "labels":
        return _OnLabels(term, setting, options)
    if term.info.reads == "logits" and not term.info.stages:
        return _OnLogits(term, setting, options)
    return _OnMaps(term, setting, options)


def _chosen(term: Term, setting: Setting, count: int) -> list[int]:
    """Indices of the teachers that a term reads."""
    if not term.teacher:
        return list(range(count))
    if term.teacher not in setting.names:
        raise ValueError(f"{term.loss}: there is no teacher {term.teacher!r} among {', '.join(setting.names)}")
    return [setting.names.index(term.teacher)]


def _teachers(targets: Targets) -> Tensor:
    if targets.teacher_KBC is None:
        raise ValueError("this loss needs soft labels, and this training has none")
    return targets.teacher_KBC


class _Part(nn.Module):
    """A term's formula.

    Attributes:
        collective: every rank must call it in every step, also without rows.
    """

    collective = False


class _OnLabels(_Part):
    def __init__(self, term: Term, setting: Setting, options: dict[str, object]) -> None:
        super().__init__()
        self._loss = label_loss(term.loss, prior=setting.prior, smoothing=term.smoothing, **options)

    def forward(self, z_NC: Tensor, targets: Targets, maps: Mapping[str, Tensor]) -> Tensor:
        return self._loss(z_NC, targets)


class _OnLogits(_Part):
    def __init__(self, term: Term, setting: Setting, options: dict[str, object]) -> None:
        super().__init__()
        self._term, self._setting = term, setting
        self.collective = term.needs_whole_batch
        self._loss = logit_loss(term.loss, temperature=term.temperature, **options)

    def forward(self, z_NC: Tensor, targets: Targets, maps: Mapping[str, Tensor]) -> Tensor:
        t_KNC = _teachers(targets)
        t_KNC = t_KNC[_chosen(self._term, self._setting, len(t_KNC))]
        raw_KNC = t_KNC
        if self._term.standardise:
            z_NC, t_KNC = standardised(z_NC), standardised(t_KNC)
        losses = [self._loss(z_NC, t_NC, targets) for t_NC in t_KNC]
        return _combined(losses, self._term, z_NC, raw_KNC, targets)


class _OnMaps(_Part):
    """A loss on features: one module a teacher, or one for all of them where it is joint."""

    def __init__(self, term: Term, setting: Setting, options: dict[str, object]) -> None:
        super().__init__()
        self._term, self._setting = term, setting
        own = _shapes(term, "student", term.student_taps, setting.student)
        if not term.needs_maps:
            self.losses = nn.ModuleList([self._make(own, [], options)])
            return
        chosen = [setting.teachers[k] for k in _chosen(term, setting, len(setting.teachers))]
        if not chosen:
            raise ValueError(f"{term.loss} needs features of a teacher, and this training has none")
        theirs = [_shapes(term, "teacher", term.teacher_taps, shapes) for shapes in chosen]
        if term.loss == "fusion":
            theirs = [[shape for one in theirs for shape in one]]
        self.losses = nn.ModuleList(self._make(own, one, options) for one in theirs)
        self.collective = any(loss.collective for loss in self.losses)

    def _make(self, own: list[Shape], theirs: list[Shape], options: dict[str, object]) -> FeatureLoss:
        setting, term = self._setting, self._term
        return feature_loss(
            term.loss,
            own,
            theirs,
            classes=setting.classes,
            samples=setting.samples,
            temperature=term.temperature,
            **options,
        )

    def forward(self, z_NC: Tensor, targets: Targets, maps: Mapping[str, Tensor]) -> Tensor:
        term = self._term
        own = [maps[tap].float() for tap in term.student_taps]
        chosen = _chosen(term, self._setting, len(targets.maps)) if term.needs_maps else []
        theirs = [[targets.maps[k][tap].float() for tap in term.teacher_taps] for k in chosen]
        if not term.needs_maps or term.loss == "fusion":
            theirs = [[map_N for one in theirs for map_N in one]]
        raw_KNC = targets.teacher_KBC
        if raw_KNC is not None:
            raw_KNC = raw_KNC[_chosen(term, self._setting, len(raw_KNC))]
            targets = replace(targets, teacher_KBC=raw_KNC)
        losses = [part(own, one, targets) for part, one in zip(self.losses, theirs, strict=True)]
        return _combined(losses, term, z_NC, raw_KNC, targets)


def _combined(losses: Sequence[Tensor], term: Term, z_NC: Tensor, t_KNC: Tensor | None, targets: Targets) -> Tensor:
    """The losses against several teachers combined into one."""
    if len(losses) == 1:
        return losses[0]
    stacked = torch.stack(list(losses))  # [K, N], or [K]
    share_KN = shares(term.teachers, stacked, z_NC, t_KNC, targets)
    if stacked.ndim == 1:
        weight_N = targets.weight_B
        total = sum_of_ranks(weight_N.sum()).clamp(min=1e-12)
        return (stacked * sum_of_ranks((share_KN * weight_N).sum(1)) / total).sum(0)
    return (stacked * share_KN).sum(0)


def _shapes(term: Term, whose: str, taps: Sequence[str], known: Mapping[str, Shape]) -> list[Shape]:
    missing = [tap for tap in taps if tap not in known]
    if missing or not taps:
        raise ValueError(f"{term.loss}: no features {', '.join(missing) or 'named'} of the {whose} are available")
    return [known[tap] for tap in taps]


def _titles(terms: Sequence[Term]) -> list[str]:
    """A name for each term, for logs: its loss, with a number where a loss occurs twice."""
    titles: list[str] = []
    for term in terms:
        count = sum(title.partition("_again")[0] == term.loss for title in titles)
        titles.append(term.loss if not count else f"{term.loss}_again{count if count > 1 else ''}")
    return titles
