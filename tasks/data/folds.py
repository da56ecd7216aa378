"""Folds of the labelled training images by patient, so that a teacher predicts no image that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from infra.digest import digest_of, sha256_bytes
from infra.errors import UsageError
from tasks.data.corpus import Corpus, Shard

NO_FOLD = -1
MIN_PATIENTS = 2


def fold_of(corpus: Corpus, count: int) -> dict[int, np.ndarray]:
    """Fold of every row of the training shards, by shard number: int8 [N], NO_FOLD for unlabelled rows.

    The fold is a hash of the patient (of the image, where no patient is known): a patient never straddles folds,
    and images that come later move none.

    Args:
        count: number of folds, at most 127.
    """
    return {number: _folds(shard, count) for number, shard in enumerate(corpus.shards) if shard.split == "train"}


class WithoutFold(Corpus):
    """A corpus as the teacher of a fold is trained on it: the fold's images have no labels.

    Args:
        corpus: the whole of it.
        fold, count: which of how many folds is held out.

    Raises:
        UsageError: a fold has fewer than two patients; the error asks for a smaller number of folds.
    """

    def __init__(self, corpus: Corpus, fold: int, count: int) -> None:
        super().__init__(corpus.store, corpus.manifest)
        self.whole, self.fold, self.count = corpus, fold, count
        self._folds = fold_of(corpus, count)
        patients: dict[int, set[str]] = {number: set() for number in range(count)}
        for number, folds in self._folds.items():
            for own in np.unique(folds[folds != NO_FOLD]).tolist():
                patients[own].update(corpus.shards[number].patient[folds == own])
        smallest = min(patients, key=lambda number: len(patients[number]))
        if len(patients[smallest]) < MIN_PATIENTS:
            raise UsageError(
                f"folds: {count} is too many for the labelled training images of {corpus.title}: fold {smallest} has "
                f"{len(patients[smallest])} patients, it needs {MIN_PATIENTS}"
            )

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards; the labels of the held-out rows are unknown."""
        return [
            _without(shard, self._folds[number] == self.fold) if number in self._folds else shard
            for number, shard in enumerate(self.whole.shards)
        ]

    def section(self) -> dict[str, Any]:
        """What of the fold enters the key of its training."""
        return {"number": self.fold, "of": self.count, "keys": digest_of(self._held_out())}

    def facts(self) -> dict[str, Any]:
        """fold [number, of], images held out, and classes that the rest lacks though the corpus has them."""
        lacking = _shown(self.whole) & ~_shown(self)
        return {
            "fold": [self.fold, self.count],
            "held_out": len(self._held_out()),
            "lacking": [self.classes[number] for number in np.flatnonzero(lacking)],
        }

    def _held_out(self) -> list[str]:
        shards = self.whole.shards
        return [str(key) for number, own in self._folds.items() for key in shards[number].keys[own == self.fold]]


def _folds(shard: Shard, count: int) -> np.ndarray:
    folds = np.full(len(shard), NO_FOLD, dtype=np.int8)
    rows = np.flatnonzero(shard.labelled)
    patients, which = np.unique(shard.patient[rows].astype(str), return_inverse=True)
    hashed = [int(sha256_bytes(patient.encode())[:15], 16) % count for patient in patients.tolist()]
    folds[rows] = np.array(hashed, dtype=np.int8)[which]
    return folds


def _without(shard: Shard, held_out: np.ndarray) -> Shard:
    label = np.where(held_out, -1, shard.label).astype(shard.label.dtype)
    labels = None
    if shard.labels is not None:
        labels = np.where(held_out[:, None], -1, shard.labels).astype(shard.labels.dtype)
    return replace(shard, label=label, labels=labels)


def _shown(corpus: Corpus) -> np.ndarray:
    """bool [C]: classes that some labelled training image shows."""
    shown = np.zeros(len(corpus.classes), dtype=bool)
    for shard in corpus.of_split("train"):
        if shard.labels is not None:
            shown |= (shard.labels > 0).any(axis=0)
        else:
            shown[np.unique(shard.label[shard.labelled])] = True
    return shown
