"""What a training does, and the key that follows from it; no torch, so that a cache hit stays cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from infra.digest import digest_of, unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from models.losses.terms import LOSSES, Term, check_classes, default_terms, to_plain
from tasks.data.corpus import Corpus
from tasks.spec import LossTerm, ModelSection, StudentSection, TeacherSection, TrainSection
from tasks.spec.losses import check_split, terms_of_section
from tasks.teachers.teacher import TeacherModel

TEACH_NAME, DISTILL_NAME = "teach", "distill"
VERSION = 3
MAX_REPEATS = 20
"""Times that one picture is seen before more views are advised: 6 did no harm on phantom-fundus, 24 cost 0.13 of F1."""
STORED = "stored"
"""Tap under which stored features of a teacher are found."""


class Request:
    """One training: its model, losses, data and section of the spec.

    Args:
        arm: taught, labels_only, a name of `student.arms`, phase:<name> (of any but the last of several phases), or
            teacher:<name>.
        pool: all or labelled: training images that are used.
        hidden: whether no label of a training image is shown.
        start: manifest of the phase before, whose model the initial weights are; None: those that the model names.
        compared: label manifests of the teachers that the student is compared with on some images; they follow from
            the key's inputs and enter no key.
    """

    def __init__(
        self,
        *,
        stage: str,
        arm: str,
        seed: int,
        model: ModelSection,
        train: TrainSection,
        steps: int,
        terms: Sequence[Term],
        section: dict[str, Any],
        labels: list[Manifest],
        select: Manifest | None,
        fold: tuple[int, int] | None = None,
        input: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        online: Sequence[TeacherModel] = (),
        pool: str = "all",
        hidden: bool = False,
        start: Manifest | None = None,
        compared: Sequence[Manifest] = (),
        targets: str = "view",
    ) -> None:
        self.stage, self.arm, self.seed = stage, arm, seed
        self.model, self.train, self.steps = model, train, steps
        self.terms, self.section = list(terms), section
        self.online = tuple(online)
        self.labels, self.select = labels, select
        self.fold, self.input = fold, input
        self.pool, self.hidden = pool, hidden
        self.start, self.compared = start, list(compared)
        self.targets = targets

    def advice(self, corpus: Corpus, views: int) -> str:
        """What to change where the same few pictures come again and again; "" where they do not.

        On 48 and 60 labelled phantom images alone, four stored views (each seen over 100 times) cost distillation 0.2
        to 0.35 of macro-F1 against labels with fresh views: the student learns the pictures by heart.

        Args:
            views: stored random views of an image, beside the plain one.
        """
        if not self.labels:
            return ""  # every epoch has new views
        images = training_rows(corpus, self.pool)
        times = self.steps * self.train.batch / max(1, images * (1 + views))
        if times < MAX_REPEATS:
            return ""
        return (
            f"{images:,} images in {1 + views} stored views: each picture will be seen {times:,.0f} times. More "
            "stored views (views.count) or student.teacher: online keep a student from learning them by heart"
        )

    def key(self, corpus: Corpus, views: dict[str, Any], weights: str) -> str:
        """Key of the training; labels of val count only where they decide something, those of test never do."""
        judged = ["val"] if self.train.judged else []
        return unit_key(
            self.stage,
            VERSION,
            inputs=[
                *(shard.id for split in ("train", *judged) for shard in corpus.of_split(split)),
                *(label_digest(corpus, split) for split in ("train", *judged)),
                *(manifest.key for manifest in self.labels),
                *(teacher.id for teacher in self.online),
                self.select.output(kind="weights").id if self.select else "",
            ],
            section={
                **self.section,
                "arm": self.arm if self.stage == DISTILL_NAME else TEACH_NAME,
                "seed": self.seed,
                "steps": self.steps,
                "terms": [to_plain(term) for term in self.terms],
                "views": views,
                "classes": corpus.classes,
            },
            weights=[weights],
        )


def label_digest(corpus: Corpus, split: str) -> str:
    """Digest of the labels of a split: keys, labels and what is left out, in shard order."""
    return digest_of(
        [
            [
                *(s.keys.tolist(), s.label.tolist(), s.labels.tolist() if s.labels is not None else None),
                *([] if s.used.all() else [s.used.tolist()]),
            ]
            for s in corpus.of_split(split)
        ]
    )


def training_rows(corpus: Corpus, pool: str) -> int:
    """Training images that a pass goes over; those that select gives no weight are counted.

    The arm on labels alone takes as many steps, and its key must not wait for what teachers and select say.

    Args:
        pool: all or labelled, as `student.pool`.
    """
    shards = corpus.of_split("train")
    return sum(int((shard.labelled if pool == "labelled" else shard.used).sum()) for shard in shards)


def steps_of(train: TrainSection, rows: int) -> int:
    """Optimiser steps of a training.

    Args:
        rows: images that a pass goes over.
    """
    return train.steps_for(rows)


def precision_on(train: TrainSection, device: str) -> str:
    if train.precision != "auto":
        return train.precision
    return "bfloat16" if device == "cuda" else "float32"


def terms_of(
    corpus: Corpus, losses: Sequence[LossTerm] | None, train: TrainSection, *, taught: bool, labels: bool = True
) -> list[Term]:
    """The terms of an objective, their defaults decided by the corpus.

    Args:
        losses: `student.loss`; None: the default of the corpus's task.
        taught: whether teachers teach; without them terms that need one are left out.
        labels: whether labels teach; without them terms that read them are left out.

    Raises:
        UsageError: a loss that is not for the corpus's task (those that are get named) or for so few classes,
            or one that reads a batch as a whole where `train.accumulate` splits it.
    """
    terms = terms_of_section(
        [loss for loss in losses or [] if taught or LOSSES[loss.loss].reads == "labels"],
        smoothing=train.label_smoothing,
    )
    if not terms:
        terms = [
            term if term.needs_teacher else replace(term, smoothing=train.label_smoothing)
            for term in default_terms(corpus.task, taught=taught)
        ]
    if not labels:
        terms = [term for term in terms if term.needs_teacher]
    for term in terms:
        if corpus.task not in term.info.tasks:
            fitting = [name for name, info in LOSSES.items() if corpus.task in info.tasks]
            raise UsageError(
                f"student.loss: {term.loss} is for {' and '.join(term.info.tasks)} corpora; this one is "
                f"{corpus.task}; for it there are {', '.join(fitting)}"
            )
        try:
            check_classes(term, len(corpus.classes))
            check_split([term], train)
        except ValueError as error:
            raise UsageError(f"student.loss: {error}") from error
    return terms


def on_stored(terms: Sequence[Term], teachers: Sequence[TeacherSection]) -> list[Term]:
    """Terms whose features of teachers come from the store, each under the tap `STORED`.

    Raises:
        UsageError: a term reads features that a teacher does not store.
    """
    return [_on_stored(term, teachers) if term.needs_maps else term for term in terms]


def _on_stored(term: Term, teachers: Sequence[TeacherSection]) -> Term:
    kinds = {_stored_features(term, teacher) for teacher in teachers if term.teacher in ("", teacher.name)}
    student = term.student_taps
    if student == (term.info.default_tap,):
        # One map is stored: the student is tapped at the like place.
        student = ("pooled",) if kinds == {"pooled"} else ("features",)
    return replace(term, student_taps=student, teacher_taps=(STORED,))


def _stored_features(term: Term, teacher: TeacherSection) -> str:
    wanted = term.teacher_taps if term.teacher_taps != (term.info.default_tap,) else ()
    if teacher.features is None or (wanted and wanted != (teacher.features,)):
        raise UsageError(
            f"student.loss: {term.loss} reads features {', '.join(wanted or ('of a teacher',))}, and teacher "
            f"{teacher.name} stores {teacher.features or 'none'}; set its `features:` (pooled, or the path of a "
            "module), or student.teacher: online"
        )
    return teacher.features


def student_section(student: StudentSection, *, taught: bool) -> dict[str, Any]:
    """The part of `student:` that enters the key; `loss` is in the terms already."""
    section = student.identity()
    for name in ("loss",) if taught else ("loss", "teacher", "pool", "targets"):
        section.pop(name, None)
    return section
