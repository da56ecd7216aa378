"""What a training is asked to do, and the key that follows from it; no torch, so a hit costs nothing."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from infra.digest import digest_of, unit_key
from infra.errors import UsageError
from infra.manifest import Manifest
from models.terms import NEEDS_TEACHER, default_terms
from tasks.corpus import Corpus
from tasks.spec import LossTerm, ModelSection, StudentSection, TrainSection

TEACH, DISTILL = "teach", "distill"
VERSION = 1


class Request:
    """What `teach` and `distill` ask of `_run`."""

    def __init__(
        self,
        *,
        stage: str,
        arm: str,
        seed: int,
        model: ModelSection,
        train: TrainSection,
        steps: int,
        terms: list[dict[str, Any]],
        section: dict[str, Any],
        labels: list[Manifest],
        select: Manifest | None,
        fold: tuple[int, int] | None = None,
        input: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    ) -> None:
        self.stage, self.arm, self.seed = stage, arm, seed
        self.model, self.train, self.steps = model, train, steps
        self.terms, self.section = terms, section
        self.labels, self.select = labels, select
        self.fold, self.input = fold, input

    def key(self, corpus: Corpus, views: dict[str, Any], weights: str) -> str:
        """Key of the training; the labels of train count, those of val and test do not."""
        return unit_key(
            self.stage,
            VERSION,
            inputs=[
                *(shard.id for shard in corpus.of_split("train")),
                label_digest(corpus),
                *(manifest.key for manifest in self.labels),
                self.select.output(kind="weights").id if self.select else "",
            ],
            section={
                **self.section,
                "arm": self.arm if self.stage == DISTILL else TEACH,
                "seed": self.seed,
                "steps": self.steps,
                "terms": self.terms,
                "views": views,
                "classes": corpus.classes,
            },
            weights=[weights],
        )


def label_digest(corpus: Corpus) -> str:
    """Digest of the labels that a training sees: keys and labels of the train split, in shard order."""
    return digest_of(
        [
            [s.keys.tolist(), s.label.tolist(), s.labels.tolist() if s.labels is not None else None]
            for s in corpus.of_split("train")
        ]
    )


def steps_of(train: TrainSection, rows: int) -> int:
    if train.steps is not None:
        return train.steps
    assert train.epochs is not None
    return max(1, math.ceil(train.epochs * rows / train.batch))


def precision_on(train: TrainSection, device: str) -> str:
    if train.precision != "auto":
        return train.precision
    return "bfloat16" if device == "cuda" else "float32"


def terms_of(
    corpus: Corpus, losses: list[LossTerm] | None, train: TrainSection, *, taught: bool
) -> list[dict[str, Any]]:
    if losses is None:
        terms = [asdict(term) for term in default_terms(corpus.task, taught=taught)]
    else:
        terms = [loss.model_dump() for loss in losses if taught or not NEEDS_TEACHER[loss.loss]]
        if not terms:
            terms = [asdict(term) for term in default_terms(corpus.task, taught=False)]
    for term in terms:
        if term["loss"] in ("binary", "soft_binary") and corpus.task != "multilabel":
            raise UsageError(f"student.loss: {term['loss']} is for multilabel corpora; this one is {corpus.task}")
        if term["loss"] in ("cross_entropy", "kl") and corpus.task == "multilabel":
            raise UsageError(f"student.loss: {term['loss']} is not for multilabel corpora; use binary, soft_binary")
        if not NEEDS_TEACHER[term["loss"]]:
            term["smoothing"] = train.label_smoothing
    return terms


def student_section(student: StudentSection, *, taught: bool) -> dict[str, Any]:
    section = student.identity()
    if not taught:
        section.pop("loss")
    return section
