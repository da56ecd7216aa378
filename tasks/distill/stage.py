"""The stages teach and distill: what a teacher or a student is trained on, with which losses, for how many steps."""

from __future__ import annotations

from collections.abc import Sequence

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from models.losses.terms import LOSSES
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold
from tasks.data.hidden_labels import WithoutLabels
from tasks.data.weights import TEACHER_FILES
from tasks.distill.request import (
    DISTILL_NAME,
    TEACH_NAME,
    Request,
    on_stored,
    steps_of,
    student_section,
    terms_of,
    training_rows,
)
from tasks.distill.training_work import Training
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Made, Stage, StageResult, run_stage
from tasks.spec import Spec, TeacherSection
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tasks.teachers.champion_start import CHAMPION, champion_start
from tasks.teachers.teacher import TeacherHandle, teacher_handle, teacher_model


class TeacherTraining(Training):
    """Train a teacher on the labels alone (DESIGN: a teacher is a student without a teacher).

    Args:
        fold: (number, of how many): hold out the labels of that fold; None: train on all of them.

    Raises:
        UsageError: the teacher has no section `train:`.
    """

    stage = TEACH_NAME

    def __init__(
        self,
        context: Context,
        corpus: Corpus,
        teacher: TeacherSection,
        spec: Spec,
        *,
        fold: tuple[int, int] | None = None,
        side_by_side: int = 1,
        track: bool = False,
    ) -> None:
        if teacher.train is None:
            raise UsageError(f"teacher {teacher.name} has no `train:`; nothing to train")
        arm, section = f"teacher:{teacher.name}", teacher.identity()
        if fold is not None:
            corpus = WithoutFold(corpus, *fold)
            arm, section = f"{arm}:fold-{fold[0]}-of-{fold[1]}", {**section, "fold": corpus.section()}
        rows = training_rows(corpus, "labelled")
        request = Request(
            stage=self.stage,
            arm=arm,
            seed=teacher.seed,
            model=teacher,
            train=teacher.train,
            steps=steps_of(teacher.train, rows),
            terms=terms_of(corpus, None, teacher.train, taught=False),
            section=section,
            labels=[],
            select=None,
            fold=fold,
            input=(teacher.mean, teacher.std) if teacher.mean and teacher.std else None,
        )
        super().__init__(context, request, corpus, spec, side_by_side=side_by_side, track=track)


class StudentTraining(Training):
    """Train one student.

    Args:
        labels: manifests of the teachers' soft labels; the arm labels_only ignores them, and a student with online
            teachers is only compared with them.
        select: manifest of the sample weights; None: all weigh the same.
        arm: taught (labels and soft labels, unlabelled pool included), labels_only (the same student, the same
            number of steps, labelled images alone), or one of `student.arms`.
        seed: of the initial weights and of the order.
        teachers: online teachers, read where `student.teacher` is online.
        phase: name of one of the arm's phases; "": it has none.
        start: manifest of the phase before; None for the first.
    """

    stage = DISTILL_NAME

    def __init__(
        self,
        context: Context,
        corpus: Corpus,
        labels: Sequence[Manifest],
        select: Manifest | None,
        spec: Spec,
        *,
        arm: str = TAUGHT,
        seed: int = 0,
        teachers: Sequence[TeacherHandle] = (),
        phase: str = "",
        start: Manifest | None = None,
        side_by_side: int = 1,
        track: bool = False,
    ) -> None:
        student = spec.student.of(arm).of_phase(phase)
        champion = None
        if student.start == CHAMPION and start is None:
            name = spec.register_.name or spec.name
            champion = champion_start(name, student, student.size or spec.views.size, spec.views.size, corpus)
        online = tuple(teachers) if arm != LABELS_ONLY and student.teacher == "online" else ()
        request = student_request(
            corpus,
            labels,
            select,
            spec,
            context.store,
            arm=arm,
            seed=seed,
            teachers=online,
            phase=phase,
            start=start,
        )
        super().__init__(
            context,
            request,
            WithoutLabels(corpus) if request.hidden else corpus,
            spec,
            side_by_side=side_by_side,
            track=track,
            teachers=online if request.online else (),
            champion=champion,
        )
        self.asked_for_champion = student.start == CHAMPION and start is None

    def make(self) -> Made:
        if self.asked_for_champion and self.champion is None:
            self.context.message(
                f"{self.name} begins as student.weights says: there is no champion, or the champion learned from these "
                "images and began so too"
            )
        return super().make()


def teach(
    context: Context,
    corpus: Corpus,
    teacher: TeacherSection,
    spec: Spec,
    *,
    fold: tuple[int, int] | None = None,
    track: bool = False,
) -> StageResult:
    """Run the stage; see `TeacherTraining`."""
    return run_stage(TeacherTraining(context, corpus, teacher, spec, fold=fold, track=track))


def distill(
    context: Context,
    corpus: Corpus,
    labels: Sequence[Manifest],
    select: Manifest | None,
    spec: Spec,
    *,
    arm: str = TAUGHT,
    seed: int = 0,
    teachers: Sequence[TeacherHandle] = (),
    phase: str = "",
    start: Manifest | None = None,
    track: bool = False,
) -> StageResult:
    """Run the stage; see `StudentTraining`."""
    return run_stage(
        StudentTraining(
            context,
            corpus,
            labels,
            select,
            spec,
            arm=arm,
            seed=seed,
            teachers=teachers,
            phase=phase,
            start=start,
            track=track,
        )
    )


def student_request(
    corpus: Corpus,
    labels: Sequence[Manifest],
    select: Manifest | None,
    spec: Spec,
    store: Store,
    *,
    arm: str,
    seed: int,
    teachers: Sequence[TeacherHandle] = (),
    phase: str = "",
    start: Manifest | None = None,
) -> Request:
    """The request of a student's training, arguments as `StudentTraining`; writes nothing.

    Raises:
        UsageError: the student needs online teachers and gets none, or a loss does not fit.
    """
    whole = spec.student.of(arm)
    student = whole.of_phase(phase)
    taught = arm != LABELS_ONLY
    terms = terms_of(corpus, student.loss, student.train, taught=taught, labels=student.labels)
    # Where no loss reads a teacher, images come as they do on labels alone: labelled ones, each time in a new view.
    reads = taught and ((arm == TAUGHT and not phase) or any(term.needs_teacher for term in terms))
    stored = reads and student.teacher == "stored"
    if reads and not stored and not teachers:
        raise UsageError("student.teacher is online, and no teacher is at hand")
    earlier = phase and phase != (whole.phases or [])[-1].name
    return Request(
        stage=DISTILL_NAME,
        arm=f"phase:{phase}" if earlier else arm,
        seed=seed,
        model=student,
        train=student.train,
        steps=student_steps(corpus, spec, arm, phase),
        terms=on_stored(terms, spec.teachers) if stored else terms,
        section=student_section(student, taught=reads),
        labels=list(labels) if stored else [],
        select=select if reads else None,
        online=[teacher_model(teacher, corpus, spec, store) for teacher in teachers] if reads and not stored else [],
        pool=student.pool if reads else "all",
        hidden=not student.labels,
        start=start,
        compared=labels if taught else [],
        targets=student.targets,
    )


def student_steps(corpus: Corpus, spec: Spec, arm: str, phase: str = "") -> int:
    """Optimiser steps of a student's training; on labels alone as many as the taught student's, phases together.

    A longer training is not mistaken for a better teacher.
    """
    shards = corpus.of_split("train")
    labelled = sum(int(shard.labelled.sum()) for shard in shards)
    return steps_of_arm(spec, arm, phase, sum(int(shard.used.sum()) for shard in shards), labelled)


def students_at_once(spec: Spec, arm: str) -> int:
    """Students that train when one of this arm does: those on labels alone need not wait for soft labels."""
    alone = arm == LABELS_ONLY
    teachers = sum(teacher.train is not None for teacher in spec.teachers)
    arms = 1 if alone else len([each for each in spec.arms if each != LABELS_ONLY])
    return len(spec.student.seeds) * arms + (teachers if alone else 0)


def steps_of_arm(spec: Spec, arm: str, phase: str, images: int, labelled: int) -> int:
    """As `student_steps`, by the numbers of training images and of labelled ones."""
    if arm == LABELS_ONLY:
        phases = spec.student.phases or []
        names = [phase.name for phase in phases] or [""]
        return sum(steps_of_arm(spec, TAUGHT, name, images, labelled) for name in names)
    student = spec.student.of(arm).of_phase(phase)
    alone = bool(student.loss) and all(LOSSES[term.loss].reads == "labels" for term in student.loss or [])
    few = student.pool == "labelled" or (alone and (arm, phase) != (TAUGHT, ""))
    return steps_of(student.train, labelled if few else images)


def _bind_teach(
    context: Context, spec: Spec, *, corpus: Manifest, teacher: str, fold: tuple[int, int] | None = None
) -> TeacherTraining:
    section = next(each for each in spec.teachers if each.name == teacher)
    return TeacherTraining(
        context,
        Corpus(context.store, corpus),
        section,
        spec,
        fold=fold,
        side_by_side=sum(1 + (each.folds or 0) for each in spec.teachers if each.train is not None),
        track=context.run.train.track,
    )


def _bind_distill(
    context: Context,
    spec: Spec,
    *,
    corpus: Manifest,
    arm: str,
    seed: int,
    labels: Sequence[Manifest] = (),
    select: Manifest | None = None,
    trained: Sequence[Manifest] = (),
    phase: str = "",
    start: Manifest | None = None,
) -> StudentTraining:
    read = Corpus(context.store, corpus)
    teachers: list[TeacherHandle] = []
    if arm != LABELS_ONLY and spec.student.of(arm).teacher == "online":
        teachers = [
            teacher_handle(section, _trainings_of(section.name, trained), read, context.store)
            for section in spec.teachers
        ]
    return StudentTraining(
        context,
        read,
        labels,
        select,
        spec,
        arm=arm,
        seed=seed,
        teachers=teachers,
        phase=phase,
        start=start,
        side_by_side=students_at_once(spec, arm),
        track=context.run.train.track,
    )


def _trainings_of(teacher: str, trained: Sequence[Manifest]) -> list[Manifest]:
    """Manifests of one teacher's trainings: of the whole teacher, then one a fold, by number."""
    arm = f"teacher:{teacher}"
    folds = [manifest for manifest in trained if str(manifest.facts["arm"]).startswith(f"{arm}:fold-")]
    return [
        *(manifest for manifest in trained if manifest.facts["arm"] == arm),
        *sorted(folds, key=lambda manifest: int(manifest.facts["fold"][0])),
    ]


TEACH = Stage("teach", _bind_teach, folders=("models/",))
DISTILL = Stage("distill", _bind_distill, folders=("models/", TEACHER_FILES))
