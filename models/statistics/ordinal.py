"""Ordered grades: cumulative logits and expected grades from class logits, and decisions by fitted cut points.

Networks, teachers, soft labels and exports have one logit a class whatever the task. Ordinal values are derived from
them: log-odds of "worse than grade k" for losses, the expected grade and P(grade or worse) for decisions. So the C - 1
cumulative probabilities of an image are always consistent. [our reading of McCullagh 1980: his model uses one slope for
all grades, which a network's classifier need not]

torch is not imported here: the numpy functions are used without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS = 50  # of Dinkelbach's method, which needs about five


@dataclass(frozen=True)
class CutPoints:
    """Where one grade ends and the next begins, on the scale of the expected grade.

    Attributes:
        values: C - 1 numbers in order; equal neighbours: the grade between them is never decided.
        missing: grades without an image to fit on.
    """

    values: tuple[float, ...]
    missing: tuple[int, ...]


def cumulative_logits(z: Tensor) -> Tensor:
    """Class logits [..., C] to log-odds of a worse grade [..., C - 1].

    logit P(y > k) = logsumexp(z_{>k}) - logsumexp(z_{<=k}) for k = 0 .. C - 2, under the softmax of z.
    """
    upper = z.flip(-1).logcumsumexp(-1).flip(-1)
    return upper[..., 1:] - z.logcumsumexp(-1)[..., :-1]


def grade_of_logits(z: Tensor) -> Tensor:
    """Class logits [..., C] to the expected grade [...] under their softmax, 0 to C - 1."""
    # Not a matrix product, which autocast would compute in half precision.
    return (z.softmax(-1) * z.new_tensor(range(z.shape[-1]))).sum(-1)


def expected_grade(prob: np.ndarray) -> np.ndarray:
    """Probabilities [N, C] to the expected grade float64 [N], 0 to C - 1."""
    return np.asarray(prob, dtype=np.float64) @ np.arange(prob.shape[1])


def at_least(prob: np.ndarray, grade: int) -> np.ndarray:
    """P(y >= grade), float64 [N], from probabilities [N, C]."""
    return np.clip(np.asarray(prob, dtype=np.float64)[:, grade:].sum(axis=1), 0.0, 1.0)


def decide(score: np.ndarray, cuts: CutPoints) -> np.ndarray:
    """Expected grades [N] to grades int64 [N]: how many cut points lie at or below each."""
    return np.searchsorted(np.asarray(cuts.values), score, side="right").astype(np.int64)


def fit_cut_points(score: np.ndarray, label: np.ndarray, classes: int) -> CutPoints:
    """The cut points whose decisions have the largest quadratic weighted kappa, exactly.

    1 - kappa is a ratio of two sums over images, of squared distance to the label and of the squared distance that
    chance would have. Dinkelbach's method (1967, doi:10.1287/mnsc.13.7.492) turns the ratio into a few problems with
    one sum; each is solved by dynamic programming over the images in order of their score.

    Args:
        score: [N] expected grades.
        label: [N] int grades, -1 unlabelled (such rows do not count).
        classes: C.

    Returns:
        cut points halfway between the neighbouring scores. A grade without an image is decided only where that brings
        decisions nearer to the labels on both sides; k + 0.5 throughout where fewer than two grades have images.
    """
    known = label >= 0
    score, label = np.asarray(score, dtype=np.float64)[known], label[known]
    count = np.bincount(label, minlength=classes)
    missing = tuple(int(grade) for grade in np.flatnonzero(count == 0))
    even = CutPoints(tuple(k + 0.5 for k in range(classes - 1)), missing)
    if np.count_nonzero(count) < 2:
        return even
    distinct, group = np.unique(score, return_inverse=True)
    grade = np.arange(classes)
    squared = np.zeros((len(distinct), classes))
    np.add.at(squared, group, (label[:, None] - grade) ** 2)
    # Of an image with decision j, against the labels of all images: the chance term.
    by_chance = np.bincount(group)[:, None] * (((grade[:, None] - grade) ** 2) @ count / len(label))
    edges = np.searchsorted(distinct, even.values)
    ratio = _ratio(squared, by_chance, edges)
    for _ in range(_ROUNDS):
        better = _best_edges(squared - ratio * by_chance)
        found = _ratio(squared, by_chance, better)
        if found >= ratio - 1e-12:
            break
        edges, ratio = better, found
    # Beyond the scale on both sides, so that no score reaches a cut after the last score.
    padded = np.concatenate([[-1.0], distinct, [float(classes)]])
    return CutPoints(tuple(float(value) for value in (padded[edges] + padded[edges + 1]) / 2), missing)


def _ratio(squared: np.ndarray, by_chance: np.ndarray, edges: np.ndarray) -> float:
    rows = np.arange(len(squared))
    decided = np.searchsorted(edges, rows, side="right")
    return float(squared[rows, decided].sum() / by_chance[rows, decided].sum())


def _best_edges(cost: np.ndarray) -> np.ndarray:
    """Where each grade but the first begins, int64 [C - 1] in order, for the least sum of `cost` [M, C]."""
    rows, classes = cost.shape
    places = np.arange(rows + 1)
    # upto[p]: least cost of the rows before p with the grades so far.
    sums = np.concatenate([np.zeros((1, classes)), cost.cumsum(axis=0)])
    upto = sums[:, 0]
    begins = []
    for grade in range(1, classes):
        gap = upto - sums[:, grade]
        lowest = np.minimum.accumulate(gap)
        begins.append(np.maximum.accumulate(np.where(gap == lowest, places, 0)))
        upto = lowest + sums[:, grade]
    edges = np.zeros(classes - 1, dtype=np.int64)
    place = rows
    for grade in range(classes - 1, 0, -1):
        place = edges[grade - 1] = begins[grade - 1][place]
    return edges
