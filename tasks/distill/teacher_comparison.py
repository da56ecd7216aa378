"""A student beside its teachers on fixed images: some training views, and the plain view of the validation images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from infra.storage.manifest import Manifest
from models.augmentation.draws import NO_PARTNER, ViewRecipe
from models.statistics.teacher_fit import teacher_fit
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import SoftLabelReader
from tasks.data.views import view_of
from tasks.distill.kept_images import decoded

TRAINING_IMAGES = 128
"""Training images that a student is compared on, spread evenly over those that train."""

Rows = Sequence[tuple[int, int]]
"""(number of the shard, row)."""

FIT = tuple(f"{split}_{name}" for split in ("train", "val") for name in ("teacher_kl", "constant_kl", "teacher_r2"))
"""Columns of a history that compare a student with its teachers."""

UNDERFIT = 0.2
"""Share of the constant's divergence that a student which learns from its teachers has taken away by its end."""


@dataclass(frozen=True)
class TeacherComparison:
    """What a student is compared with while it trains.

    Args:
        corpus: of the training.
        manifests: label manifests of its teachers; several teachers are averaged.
        recipe: of the views.
        rows: that train; `TRAINING_IMAGES` of them are taken.
    """

    corpus: Corpus
    manifests: Sequence[Manifest]
    recipe: ViewRecipe
    rows: Rows

    def on_training(self, predict: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """Columns `train_*` of a history, of stored views; empty where no teacher's label is valid.

        Args:
            predict: from views, uint8 [N, S, S, 3], to the student's logits [N, C].
        """
        views, teacher = self._training
        return self._named("train", teacher, predict(views)) if len(views) else {}

    def on_validation(self, rows: Rows, logits: np.ndarray) -> dict[str, float]:
        """Columns `val_*` of a history, of the plain view; empty where no teacher's label is valid.

        Args:
            logits: the student's, [N, C], of these rows.
        """
        teacher, valid = self._teachers(rows, 0)
        return self._named("val", teacher[valid], logits[valid]) if valid.any() else {}

    @cached_property
    def _reader(self) -> SoftLabelReader:
        return SoftLabelReader(self.corpus, self.manifests)

    @cached_property
    def _view(self) -> int:
        """The first random view where every teacher has one, else the plain one."""
        stored = [{int(o.meta["view"]) for o in m.outputs_where(kind="soft", split="train")} for m in self.manifests]
        return 1 if all(1 in views for views in stored) else 0

    @cached_property
    def _training(self) -> tuple[np.ndarray, np.ndarray]:
        """Views of the chosen rows, uint8 [N, S, S, 3], and the teachers' mean probabilities, [N, C]."""
        places = np.linspace(0, len(self.rows) - 1, min(TRAINING_IMAGES, len(self.rows))).astype(int)
        rows = [self.rows[place] for place in places.tolist()]
        teacher, valid = self._teachers(rows, self._view)
        views = [self._rendered(*row) for row, good in zip(rows, valid.tolist(), strict=True) if good]
        side = self.recipe.size
        return np.array(views, dtype=np.uint8).reshape(-1, side, side, 3), teacher[valid]

    def _rendered(self, number: int, row: int) -> np.ndarray:
        shard: Shard = self.corpus.shards[number]
        mixed = self._reader.rows(number, self._view).partner
        partner = NO_PARTNER if mixed is None else int(mixed[row])
        return view_of(partial(decoded, self.corpus, shard), shard, self.recipe, self._view, row, partner)[0]

    def _teachers(self, rows: Rows, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean probabilities [N, C] and whether every teacher's are valid, bool [N]."""
        prob = np.zeros((len(rows), len(self.corpus.classes)), dtype=np.float32)
        valid = np.zeros(len(rows), dtype=bool)
        numbers = np.array([number for number, _ in rows], dtype=np.int64)
        own = np.array([row for _, row in rows], dtype=np.int64)
        for number in np.unique(numbers).tolist():
            at = np.flatnonzero(numbers == number)
            prob[at] = self._reader.probabilities(number, view)[own[at]]
            valid[at] = self._reader.rows(number, view).valid[own[at]]
        return prob, valid

    def _named(self, split: str, teacher: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        found = teacher_fit(self.corpus.task, teacher, logits)
        names = {"kl": "teacher_kl", "r2": "teacher_r2", "constant_kl": "constant_kl"}
        values = {f"{split}_{names[name]}": value for name, value in found.items()}
        return {name: value for name, value in values.items() if math.isfinite(value)}


def comparison_text(row: Mapping[str, float]) -> str:
    """A row's columns for people; "" where it has none."""
    parts = []
    for split, where in (("train", "training views"), ("val", "validation images")):
        if f"{split}_teacher_kl" not in row:
            continue
        kl, constant = row[f"{split}_teacher_kl"], row[f"{split}_constant_kl"]
        r2 = row.get(f"{split}_teacher_r2")
        explained = "" if r2 is None else f", R2 {r2:.2f}"
        parts.append(f"KL {kl:.3g} on {where} (a constant {constant:.3g}{explained})")
    return f"from its teachers: {'; '.join(parts)}" if parts else ""


def underfits(row: Mapping[str, float]) -> bool:
    """Whether a student has learnt little of its teachers even on what it was trained on."""
    kl, constant = row.get("train_teacher_kl"), row.get("train_constant_kl")
    return kl is not None and constant is not None and kl > (1 - UNDERFIT) * constant
