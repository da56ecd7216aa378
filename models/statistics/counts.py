"""Weighted counts behind the metrics: confusion tables, kappa, Matthews correlation, areas under the curve.

Everything takes weights [N, R] (R resamples) and works on all resamples at once.
"""

from __future__ import annotations

import numpy as np


def counted_ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=out, where=np.asarray(whole) > 0)


def grouped_sum(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum rows [N, R] by group [N]: the distinct groups in order [G], and [G, R]."""
    order = np.argsort(group, kind="stable")
    distinct, start = np.unique(group[order], return_index=True)
    return distinct, np.add.reduceat(values[order], start, axis=0)


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Weighted confusion tables.

    Args:
        truth: [N] int class of the label.
        predicted: [N] int class of the prediction.
        weights: [N, R].

    Returns:
        [R, C, C] float64, rows truth, columns prediction.
    """
    table = np.zeros((weights.shape[1], classes * classes))
    if len(truth):
        cell, mass = grouped_sum(weights, truth.astype(np.int64) * classes + predicted)
        table[:, cell] = mass.T
    return table.reshape(-1, classes, classes)


def matthews(table: np.ndarray) -> np.ndarray:
    """K-category Matthews correlation of confusion tables [R, C, C] (Gorodkin 2004).

    0 where the predictions are all one class while the labels vary (a constant has no covariance);
    NaN where the labels do not vary.
    """
    total = table.sum(axis=(1, 2))
    truth, predicted = table.sum(axis=2), table.sum(axis=1)
    right = np.trace(table, axis1=1, axis2=2)
    covariance = right * total - (truth * predicted).sum(axis=1)
    of_predicted = total**2 - (predicted**2).sum(axis=1)
    of_truth = total**2 - (truth**2).sum(axis=1)
    value = counted_ratio(covariance, np.sqrt(of_predicted * of_truth))
    return np.where((of_predicted == 0) & (of_truth > 0), 0.0, value)


def quadratic_kappa(table: np.ndarray) -> np.ndarray:
    """1 - sum(w * observed) / sum(w * expected), w = (i-j)^2 / (C-1)^2, of tables [R, C, C]; Cohen 1968.

    NaN where labels and predictions are all one and the same class.
    """
    classes = table.shape[1]
    rank = np.arange(classes)
    weight = (rank[:, None] - rank[None, :]) ** 2 / max(classes - 1, 1) ** 2
    total = table.sum(axis=(1, 2))
    expected = np.einsum("ri,rj,ij->r", table.sum(axis=2), table.sum(axis=1), weight)
    return 1.0 - counted_ratio(np.einsum("rij,ij->r", table, weight) * total, expected)


def weighted_auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the weighted share of (positive, negative) pairs in order, ties half.

    Args:
        score: [N] larger for the positive class.
        positive: [N] bool.
        weights: [N, R].

    Returns:
        [R], NaN where one side has no weight.
    """
    return counted_ratio(*_ordered_pairs(score, positive, weights))


def grade_auc(score: np.ndarray, grade: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """The share of pairs of images of different grades that a score has in order, ties half.

    A pair counts as often as grades lie between its two: this is the area under the ROC curve of "worse than grade k",
    pooled over all k, each k with as much weight as it has pairs. Nothing is fitted, and no threshold with few images
    has a large say. [our choice, for choosing among models on 50 to 200 validation images]

    Args:
        score: [N] larger for worse grades.
        grade: [N] int, 0 to classes - 1.
        weights: [N, R].

    Returns:
        [R], NaN where all that has weight is of one grade.
    """
    pairs = [_ordered_pairs(score, grade > k, weights) for k in range(classes - 1)]
    none = np.zeros(weights.shape[1])
    return counted_ratio(sum((own for own, _ in pairs), none), sum((all_ for _, all_ in pairs), none))


def _ordered_pairs(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the (positive, negative) pairs in order, ties half, and of all such pairs: [R] each."""
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(up) or not len(down):
        return np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    down = down[np.argsort(score[down], kind="stable")]
    below = np.zeros((len(down) + 1, weights.shape[1]))
    np.cumsum(weights[down], axis=0, out=below[1:])
    first = np.searchsorted(score[down], score[up], side="left")
    last = np.searchsorted(score[down], score[up], side="right")
    pairs = np.einsum("pr,pr->r", weights[up], (below[first] + below[last]) / 2)
    return pairs, weights[up].sum(axis=0) * below[-1]
