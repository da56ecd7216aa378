"""What `stillroom init` proposes by kind of image and by size of the set, and why: the tables behind the spec's text.

Measured is what docs/recipes.md has: three sets of 24 to 120 labelled images and pools of 111 to 563, students at 128
px, 1,000 steps of 32, three teachers at 224 px, 300 steps of 24, 16 stored views; and teachers of 200 steps of 16
beside 500 of 32. The rest says "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from models.losses.terms import default_terms
from tasks.spec import TrainSection

TEACHER = "tf_efficientnet_lite0"
QUICK_SIDE = 128
SIDE_OF_STEPS = 128
"""Pixels at which the students' bounds of steps were chosen; above, where steps take longer, they are halved."""


class SetSize(IntEnum):
    """Size of a set, by its training images."""

    SMALL = 0
    MEDIUM = 1
    LARGE = 2

    @classmethod
    def of(cls, images: int) -> SetSize:
        return cls((images >= 300) + (images >= 3000))


@dataclass(frozen=True)
class Kind:
    """What the kind of image decides."""

    hflip: bool
    vflip: bool
    rotate: int  # largest turn in degrees
    turns: str  # why
    views: int  # side in pixels that teachers see
    student: int
    sides: str  # why
    gpu: int = 224  # side of views where there is a GPU
    select: str | None = None  # a preset of `select:` to offer


_AS_MEASURED = "students were measured at 128"
KINDS = {
    "xray": Kind(False, False, 10, "chests have a left and a right", 160, 128, _AS_MEASURED),
    "fundus": Kind(
        True,
        False,
        180,
        "a fundus may be turned at will; mirroring makes the other eye",
        192,
        192,
        "at 128 microaneurysms vanish; not measured",
        gpu=384,
        select="dr",
    ),
    "endoscopy": Kind(
        True,
        True,
        180,
        "the endoscope turns, so up and left mean nothing",
        160,
        128,
        _AS_MEASURED,
        select="endoscopy",
    ),
    "skin": Kind(True, True, 180, "a lesion has no up and no left", 160, 128, "not measured"),
    "histology": Kind(True, True, 180, "a slide has no up and no left", 160, 128, "not measured"),
    "other": Kind(True, False, 15, "set hflip: false where left and right matter", 160, 128, "not measured"),
}


@dataclass(frozen=True)
class Length:
    """How long a training is; it grows with the set between its bounds."""

    epochs: int
    least: int  # optimiser steps
    most: int
    least_why: str
    most_why: str

    def train(self, batch: int) -> TrainSection:
        """The section `train:` that says so."""
        return TrainSection(epochs=self.epochs, min_steps=self.least, max_steps=self.most, batch=batch)


_TIME = "time on two cores; not measured"
_NO_BETTER = "500 of 32 made teachers surer than 200 of 16, not better"
_SMALLER = "as on smaller sets; not measured"
_MEASURED = "as measured on 135 to 663 images"
# By labelled training images.
TEACHERS = {
    SetSize.SMALL: Length(20, 100, 200, "for the smallest sets; not measured", _NO_BETTER),
    SetSize.MEDIUM: Length(6, 200, 1000, _SMALLER, _TIME),
    SetSize.LARGE: Length(5, 1000, 5000, _SMALLER, _TIME),
}
# By all training images.
STUDENTS = {
    SetSize.SMALL: Length(40, 1000, 4000, _MEASURED, _TIME),
    SetSize.MEDIUM: Length(40, 1000, 4000, _MEASURED, _TIME),
    SetSize.LARGE: Length(20, 4000, 20000, _SMALLER, _TIME),
}
# Teachers' time is images x (views + 1) x members. Seen once (130 images, one seed): macro F1 of the taught student
# 0.54 from 4 views, 0.77 to 0.88 from 16; fewer on larger sets: not measured.
MEASURED_VIEWS = 16
STORED_VIEWS = ((1500, MEASURED_VIEWS), (6000, 8))
FEWEST_VIEWS = 4


@dataclass(frozen=True)
class Start:
    """What the initial weights decide: networks, rates, and how much longer random ones are trained."""

    weights: str | None
    student: str
    cut: str | None
    head: int | None
    members: int | None
    teacher_rate: float
    backbone_rate: float | None
    student_rate: float
    teacher_longer: float  # factor on the epochs and steps of TEACHERS
    student_longer: float  # and of STUDENTS


# docs/recipes.md: on labels alone a pretrained cut beats micro by what teaching brings to micro; three teachers over
# all views have an AUC of 0.90 where one on the plain view has 0.87 to 0.88. The student's rate lies
# between the 1e-3 and 3e-3 that were tried; the teacher's are those of the table.
PRETRAINED = Start("pypi", TEACHER, "blocks.2", 96, 3, 1e-3, 2e-4, 2e-3, 1, 1)
# micro (3e-3 and 1e-2 were tried) was left undertrained by 1,000 steps, and its steps take a quarter of the time of
# the cut's; longer is not measured.
RANDOM = Start(None, "micro", None, None, None, 2e-3, None, 1e-2, 1.5, 1.5)


@dataclass(frozen=True)
class Preset:
    """The proposal for one set."""

    kind: Kind
    start: Start
    views_side: int
    student_side: int
    sides: str  # why
    count: int  # stored random views
    teacher: Length
    student: Length
    average: int | None = 4  # random views of the report's judgement of teachers
    teacher_batch: int = 16
    student_batch: int = 32
    weight_decay: float = 0.05
    warmup: float = 0.1
    targets: str = "mean"  # docs/recipes.md: no clear difference from `view`; teachers speak best as a mean of views
    sampling: str = "natural"  # balanced costs kappa on EyePACS (2110.14160); not measured here
    unlabelled_ratio: float | None = None  # unlabelled samples for a labelled one in the student's batches
    bootstrap: int = 1000

    def losses(self, task: str) -> list[str]:
        """Names of the student's losses on a corpus's task; docs/losses.md compares others."""
        return [term.loss for term in default_terms(task, taught=True)]


def preset(modality: str, *, side: int, labelled: int, images: int, pretrained: bool, quick: bool = False) -> Preset:
    """The proposal for a set.

    Args:
        modality: a key of `KINDS`.
        side: shorter side of typical images in pixels; views are never larger.
        labelled: training images with a label.
        images: all training images, the pool included.
        pretrained: whether ImageNet weights are installed.
        quick: five minutes on two cores: shows that it works, and says little about quality.
    """
    kind, start = KINDS[modality], PRETRAINED if pretrained else RANDOM
    largest = max(32, side // 8 * 8)
    views, own = min(kind.views, largest), min(kind.student, largest)
    student = _longer(STUDENTS[SetSize.of(images)], start.student_longer)
    if own > SIDE_OF_STEPS:
        why = f"half as at 128 px, for time: at {own} px not measured"
        student = replace(student, least=student.least // 2, most=student.most // 2, least_why=why)
    found = Preset(
        kind,
        start,
        views_side=views,
        student_side=own,
        sides=kind.sides,
        count=next((count for below, count in STORED_VIEWS if images < below), FEWEST_VIEWS),
        teacher=_longer(TEACHERS[SetSize.of(labelled)], start.teacher_longer),
        student=student,
    )
    return _quick(found, labelled, images) if quick else found


def _longer(length: Length, factor: float) -> Length:
    if factor == 1:
        return length
    return replace(
        length,
        epochs=round(length.epochs * factor),
        least=round(length.least * factor),
        most=round(length.most * factor),
        least_why="from random weights; not measured",
        most_why=_TIME,
    )


# Quick, 100 to 120 steps at 128 px, one seed, labels alone: hyper-kvasir macro F1 .59 at 2e-3, .75 to .77 at 5e-3
# (200 of 16 .78), chest AUC .905 and .886. Teacher's AUC on hyper-kvasir: 60 steps at 1e-3 .86, 120 at 3e-3 .94 on the
# plain view and .98 as a mean of views. Taught there in 200 steps: .64, and .75 where half of each batch is labelled.
def _quick(found: Preset, labelled: int, images: int) -> Preset:
    """A look at whether it works: smaller views, few of them, one teacher, short trainings at higher rates."""
    side = min(QUICK_SIDE, found.views_side)
    why = "a quick look"
    start = replace(found.start, members=None)
    if start.weights is not None:
        start = replace(start, teacher_rate=3e-3, backbone_rate=6e-4, student_rate=5e-3)
    return replace(
        found,
        start=start,
        views_side=side,
        student_side=side,
        sides=why,
        count=4 if images < 1500 else 1,
        teacher=Length(20, 60, 120, why, why),
        student=Length(5, 160, 200, why, why),
        student_batch=16,
        unlabelled_ratio=1.0 if images > 2 * labelled > 0 else None,
        bootstrap=200,
    )
