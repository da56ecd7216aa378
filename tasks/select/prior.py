"""The pool beside the labelled prior: class counts, shares of weight, and what alignment aims at."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.data.corpus import Corpus
from tasks.select.survey import Survey


def labelled_counts(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Labelled training images of every class, int64 [C], and of how many it is known, int64 [C]."""
    count = np.zeros(len(corpus.classes), np.int64)
    known = np.zeros_like(count)
    for shard in corpus.of_split("train"):
        if shard.labels is None:
            count += np.bincount(shard.label[shard.labelled], minlength=len(count))
            known += int(shard.labelled.sum())
        else:
            count += (shard.labels == 1).sum(axis=0)
            known += (shard.labels >= 0).sum(axis=0)
    return count, known


def prior(count: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Share of every class among the images whose label is known, float64 [C]; NaN where none is."""
    return np.where(known > 0, count / np.maximum(known, 1), np.nan)


def mass(found: Survey, weight: np.ndarray) -> np.ndarray:
    """Weighted mean probability of every class over the pool, float64 [C]; zeros for a pool without weight."""
    total = float(weight.sum(dtype=np.float64))
    if total == 0:
        return np.zeros(found.probability.shape[1])
    # einsum adds up in float64 without a float64 copy of all probabilities.
    return np.asarray(np.einsum("nc,n->c", found.probability, weight.astype(np.float64)) / total)


def shares(values: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """By class, to four decimals; None where unknown."""
    return {
        name: None if np.isnan(value) else round(float(value), 4) for name, value in zip(classes, values, strict=True)
    }
