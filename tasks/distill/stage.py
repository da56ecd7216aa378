"""The stages teach and distill: what a teacher or a student is trained on, with which losses, for how many steps."""

from __future__ import annotations

from collections.abc import Sequence

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold
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
from tasks.pipeline.stage import Stage, StageResult, run_stage
from tasks.spec import Spec, TeacherSection
from tasks.spec.arms import LABELS_ONLY, TAUGHT
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
        labels: manifests of the teachers' soft labels; the arm labels_only ignores them, and so does a student with
            online teachers.
        select: manifest of the sample weights; None: all weigh the same.
        arm: taught (labels and soft labels, unlabelled pool included), or labels_only (the same student, the same
            number of steps, labelled images alone).
        seed: of the initial weights and of the order.
        teachers: online teachers, read where `student.teacher` is online.
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
        side_by_side: int = 1,
        track: bool = False,
    ) -> None:
        online = tuple(teachers) if arm == TAUGHT and spec.student.teacher == "online" else ()
        request = student_request(corpus, labels, select, spec, context.store, arm=arm, seed=seed, teachers=online)
        super().__init__(context, request, corpus, spec, side_by_side=side_by_side, track=track, teachers=online)


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
    track: bool = False,
) -> StageResult:
    """Run the stage; see `StudentTraining`."""
    return run_stage(
        StudentTraining(context, corpus, labels, select, spec, arm=arm, seed=seed, teachers=teachers, track=track)
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
) -> Request:
    """The request of a student's training; writes nothing.

    Raises:
        UsageError: the student needs online teachers and gets none, or a loss does not fit.
    """
    student = spec.student
    taught = arm == TAUGHT
    stored = taught and student.teacher == "stored"
    if taught and not stored and not teachers:
        raise UsageError("student.teacher is online, and no teacher is at hand")
    terms = terms_of(corpus, student.loss, student.train, taught=taught)
    return Request(
        stage=DISTILL_NAME,
        arm=arm,
        seed=seed,
        model=student,
        train=student.train,
        # Both arms take as many steps: a longer training is not mistaken for a better teacher.
        steps=steps_of(student.train, training_rows(corpus, student.pool)),
        terms=on_stored(terms, spec.teachers) if stored else terms,
        section=student_section(student, taught=taught),
        labels=list(labels) if stored else [],
        select=select if taught else None,
        online=[teacher_model(teacher, corpus, spec, store) for teacher in teachers],
    )


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
) -> StudentTraining:
    read = Corpus(context.store, corpus)
    teachers: list[TeacherHandle] = []
    if arm != LABELS_ONLY and spec.student.teacher == "online":
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
        side_by_side=len(spec.student.seeds) * (2 if spec.evaluate.compare else 1),
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
