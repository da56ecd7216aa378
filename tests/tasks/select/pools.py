"""Pools of unlabelled images with chosen predictions, without files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.data.soft_labels import entropy
from tasks.select.ensemble import EnsembleStatistics, agreement, confidence, disagreement
from tasks.select.policy import PoolWeights, PseudoClasses, pool_weights
from tasks.spec import SelectSection


def pool_of(
    *teachers: Sequence[Sequence[float]], many: bool = False, keys: Sequence[str] | None = None
) -> EnsembleStatistics:
    """Statistics of P unlabelled images; a row of NaN has no valid prediction.

    Args:
        teachers: probabilities [P, C] of each.
    """
    each = np.array(teachers, dtype=np.float64)
    valid = ~np.isnan(each).any(axis=(0, 2))
    each = np.nan_to_num(each)
    mean = each.mean(axis=0)
    count = len(mean)
    return EnsembleStatistics(
        key=np.array(keys or [f"k{n:04d}" for n in range(count)], dtype=object),
        shard=np.zeros(count, np.int32),
        row=np.arange(count, dtype=np.int32),
        used=np.ones(count, bool),
        confidence=np.where(valid, confidence(mean, many=many), np.nan).astype(np.float32),
        pool=np.arange(count),
        probability=mean.astype(np.float32),
        agreement=agreement(each, mean, many=many).astype(np.float32),
        entropy=entropy(mean, many=many).astype(np.float32),
        disagreement=disagreement(each, mean, many=many).astype(np.float32),
        out_of_fold=np.empty(0, np.int64),
        out_of_fold_probability=np.empty((0, mean.shape[1]), np.float32),
        given=np.empty(0, np.int32),
    )


def section(**values: object) -> SelectSection:
    return SelectSection.model_validate(values)


def weighed(
    found: EnsembleStatistics, *, many: bool = False, target: Sequence[float] | None = None, **values: object
) -> PoolWeights:
    """The rules of a section over a pool of classes c0, c1, ..."""
    names = [f"c{n}" for n in range(found.probability.shape[1])]
    aim = None if target is None else np.array(target)
    return pool_weights(found, section(**values), PseudoClasses(found, names, many=many), aim)


def sure(*top: tuple[int, float], classes: int = 3) -> list[list[float]]:
    """A row for each (class, probability), the rest spread evenly."""
    rows = np.empty((len(top), classes))
    for row, (number, p) in zip(rows, top, strict=True):
        row[:] = (1 - p) / (classes - 1)
        row[number] = p
    return rows.tolist()  # type: ignore[no-any-return]
