"""`student.loss:` the terms of a student's objective."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from models.losses.terms import LOGIT_DISTANCES, LOSSES, Term, full_options
from tasks.spec.base import Section
from tasks.spec.train import TrainSection


class ScheduleSection(Section):
    """`schedule:` of a loss, in shares of the training."""

    start: float = Field(0.0, ge=0, lt=1, description="the term begins here ...")
    ramp: float = Field(0.0, ge=0, le=1, description="... rises linearly for so long ...")
    end: float = Field(1.0, gt=0, le=1, description="... and ends here")

    @model_validator(mode="after")
    def _order(self) -> ScheduleSection:
        if self.end <= self.start:
            raise ValueError(f"the term would end at {self.end}, before it starts at {self.start}")
        return self


class LossTerm(Section):
    """One term of a student's objective; `models/losses/terms.py` lists the losses with their sources."""

    loss: str = Field(
        description="a name of models/losses/terms.py: cross_entropy, kl, dkd, dist, fitnets, rkd, fusion, ..."
    )
    weight: float = Field(
        1.0,
        ge=0,
        description="of a rescaled term: its pull on the student relative to the weighted first distillation term",
    )
    temperature: float | None = Field(None, gt=0, description="default: the loss's own; 1 to 2 for images of this kind")
    where: Literal["all", "labelled", "unlabelled"] = Field(
        "all", description="samples the term sees; losses on labels see labelled ones only"
    )
    standardise: bool = Field(False, description="z-score the logits of both first (2403.01427)")
    schedule: ScheduleSection = ScheduleSection()
    teacher: str | None = Field(None, description="read this teacher alone; default: all of them")
    teachers: Literal["average", "entropy", "confidence", "aekd"] = Field(
        "average", description="how several teachers share: evenly, EBKD, CA-MKD (needs labels), AE-KD"
    )
    student_taps: list[str] = Field([], description="pooled, features, stages, or paths of modules; default: by loss")
    teacher_taps: list[str] = Field([], description="the same of the teacher")
    rescale: bool | None = Field(
        None, description="fit the weight by gradient norms; default: yes for losses on features beside a distillation"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="the loss's own; models/losses/terms.py has defaults"
    )

    @field_validator("loss")
    @classmethod
    def _known(cls, loss: str) -> str:
        if loss not in LOSSES:
            near = difflib.get_close_matches(loss, LOSSES, n=1, cutoff=0.0)
            raise ValueError(f"there is no loss {loss!r}; did you mean {near[0]}? All: {', '.join(LOSSES)}")
        return loss

    @model_validator(mode="after")
    def _fits(self) -> LossTerm:
        info = LOSSES[self.loss]
        full_options(Term(self.loss, options=self.options))
        if self.temperature is not None and info.temperature is None:
            raise ValueError(f"{self.loss} has no temperature; leave it out")
        if info.reads == "labels":
            for name in ("standardise", "teacher", "teacher_taps", "student_taps"):
                if getattr(self, name):
                    raise ValueError(f"{self.loss} is a loss on labels: `{name}` means nothing to it; leave it out")
        if self.standardise and info.reads != "logits":
            raise ValueError(f"{self.loss} reads no logits: `standardise` means nothing to it; leave it out")
        if self.teachers == "aekd" and (info.reads != "logits" or info.stages):
            raise ValueError(f"aekd weighs gradients of the student's logits, which {self.loss} does not come from")
        if info.reads != "maps" and self.teacher_taps:
            raise ValueError(f"{self.loss} reads no features of a teacher; leave `teacher_taps` out")
        return self

    def term(self, *, beside_distillation: bool, smoothing: float) -> Term:
        """The term with its defaults decided.

        Args:
            beside_distillation: whether the objective has a weighted term on logits that its pull can be measured
                against.
            smoothing: of labels.
        """
        info = LOSSES[self.loss]
        rescale = info.reads == "maps" and not info.inside if self.rescale is None else self.rescale
        taps = [info.default_tap] if info.default_tap else []
        return Term(
            loss=self.loss,
            weight=self.weight,
            temperature=self.temperature or info.temperature or 1.0,
            where="labelled" if info.reads == "labels" else self.where,
            smoothing=smoothing if info.reads == "labels" else 0.0,
            standardise=self.standardise,
            teachers=self.teachers,
            teacher=self.teacher or "",
            student_taps=tuple(self.student_taps or taps),
            teacher_taps=tuple(self.teacher_taps or taps) if info.reads == "maps" else (),
            start=self.schedule.start,
            ramp=self.schedule.ramp,
            end=self.schedule.end,
            rescale=rescale and beside_distillation,
            options=dict(self.options),
        )


def terms_of_section(losses: list[LossTerm], *, smoothing: float) -> list[Term]:
    """The terms of `student.loss`."""
    beside = any(loss.loss in LOGIT_DISTANCES and loss.weight > 0 for loss in losses)
    return [loss.term(beside_distillation=beside, smoothing=smoothing) for loss in losses]


def check_split(terms: Sequence[Term], train: TrainSection) -> None:
    """Refuse to split a batch for losses that depend on which samples come in it.

    Raises:
        ValueError: `accumulate` is above 1 beside such a loss; the text says what to set.
    """
    for term in terms:
        if train.accumulate > 1 and term.needs_whole_batch:
            raise ValueError(
                f"{term.loss}{' with aekd' if term.teachers == 'aekd' else ''} reads a batch as a whole, and "
                f"accumulate: {train.accumulate} would show it parts of {train.batch // train.accumulate} images; "
                "set accumulate to 1, with a smaller batch where memory is short, or take another loss"
            )
