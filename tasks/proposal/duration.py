"""Rough minutes of a retrain on two CPU cores, from rates seen there; `stillroom plan` measures the machine itself."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.proposal.presets import TEACHER, Preset

# Million pixels of network input a second, both cores together: Lite0 fine-tunes 35 images/s at 160 px and 18 at 224,
# and labels two to four times as many; its first layers train at 110 images/s at 128 px and 50 at 192, micro at 400.
_TEACH, _LABEL, _CUT, _MICRO = 0.9, 2.2, 1.8, 6.5
_LARGER = 1.0  # of the student that is offered beside: reckoned from its layers, not measured
_INGEST = 50.0  # images a second
# Seconds: servers and workers, baselines and plots, packing the student. With it the estimate of a quick retrain of
# 1,098 endoscopy frames, 150 steps at 160 and 128 px, is the 5 min 27 s that it took.
_FIXED = 130.0


@dataclass(frozen=True)
class SetCounts:
    """Images by what happens to them."""

    labelled: int = 0  # training images with a label
    train: int = 0  # all training images, the pool included
    val: int = 0
    test: int = 0


@dataclass(frozen=True)
class Duration:
    """Minutes by part of a retrain."""

    ingest: float
    teachers: float
    labels: float
    students: float  # the taught one and the same on labels alone
    rest: float

    @property
    def total(self) -> float:
        return self.ingest + self.teachers + self.labels + self.students + self.rest

    def __str__(self) -> str:
        parts = {"teachers": self.teachers, "their labels": self.labels, "students": self.students}
        told = ", ".join(f"{name} {_told(minutes)}" for name, minutes in parts.items())
        return f"about {_told(self.total)} on two CPU cores ({told})"


def duration(preset: Preset, counts: SetCounts) -> Duration:
    """Minutes of the parts of a retrain as the preset says."""
    answers = counts.train * (1 + preset.count) + counts.val + counts.test
    members = preset.start.members or 1
    judged = (counts.val + counts.test) * members * (1 + (preset.average or 0))
    return Duration(
        ingest=(counts.train + counts.val + counts.test) / _INGEST / 60,
        teachers=members * teacher_minutes(preset, counts.labelled),
        labels=members * answers * preset.views_side**2 / (_LABEL * 1e6) / 60,
        students=2 * student_minutes(preset, counts.train),
        rest=(_FIXED + judged * preset.views_side**2 / (_LABEL * 1e6)) / 60,
    )


def teacher_minutes(preset: Preset, labelled: int) -> float:
    """Minutes of one teacher's training on so many labelled images."""
    steps = preset.teacher.train(preset.teacher_batch).steps_for(labelled)
    return steps * preset.teacher_batch * preset.views_side**2 / (_TEACH * 1e6) / 60


def folds_minutes(preset: Preset, labelled: int, folds: int) -> float:
    """Minutes that a teacher more a fold costs, for each member."""
    return (preset.start.members or 1) * folds * teacher_minutes(preset, labelled * (folds - 1) // folds)


def student_minutes(preset: Preset, images: int) -> float:
    """Minutes of one student's training on so many images."""
    return _student(preset, images, _CUT if preset.start.student == TEACHER else _MICRO)


def larger_minutes(preset: Preset, images: int) -> float:
    """Minutes of the training of the larger student that is offered beside."""
    return _student(preset, images, _LARGER)


def _student(preset: Preset, images: int, pace: float) -> float:
    steps = preset.student.train(preset.student_batch).steps_for(images)
    return steps * preset.student_batch * preset.student_side**2 / (pace * 1e6) / 60


def _told(minutes: float) -> str:
    return f"{max(1, round(minutes))} min" if minutes < 120 else f"{minutes / 60:.1f} h"
