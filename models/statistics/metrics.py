"""Metrics of a classifier, with a weight per image so that point values and resamples use the same code.

A bootstrap resample of patients is a weight per image (how often its patient was drawn), so every function here takes
weights [N, R] and returns [R] values: R = 1 and all ones for the point value. Undefined values are NaN here and are
reported as None with a reason (`assess`).

Definitions, with C classes, prob [N, C] and the prediction = argmax (multilabel: prob >= 0.5 per label):

accuracy            share of right predictions; multilabel: of right decisions among the known ones
balanced_accuracy   mean recall over the classes that occur in the labels
macro_f1            mean F1 over the classes that occur in labels or predictions (scikit-learn's default);
                    a class in neither is left out of the mean, never averaged in as 0
micro_f1            F1 of the pooled decisions; equals accuracy for single and ordinal
mcc                 Matthews correlation, K-category form (Gorodkin 2004,
                    doi:10.1016/j.compbiolchem.2004.09.006); 0 when all predictions are one class;
                    multilabel: mean over the labels
qwk                 quadratic weighted kappa, weights (i-j)^2/(C-1)^2 (Cohen 1968); ordinal only
grade_auc           share of pairs of images of different grades that the expected grade has in order
                    (`counts.grade_auc`); ordinal only
auc                 mean one-vs-rest area under the ROC curve, ties count half, over the classes that
                    have both positives and negatives; multilabel: mean over such labels
ece                 expected calibration error, equal-width bins of confidence (Guo et al. 2017,
                    arXiv:1706.04599); multilabel: the same per label, of prob against the share of
                    positives, and the mean over the labels
nll                 mean negative log-likelihood of the label, probabilities floored at 1e-12
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from models.statistics.counts import (
    confusion,
    counted_ratio,
    grade_auc,
    grouped_sum,
    matthews,
    quadratic_kappa,
    weighted_auc,
)

TASKS = ("single", "ordinal", "multilabel")
MAIN = {"single": "macro_f1", "ordinal": "qwk_cut_points", "multilabel": "auc"}
FITTED = {"qwk_cut_points": "grade_auc"}
"""Metrics that first fit something on the validation images, and which metric chooses there in their place."""

FIT_FREE = {"single": "macro_f1", "ordinal": "grade_auc", "multilabel": "auc"}
"""The main metric where no validation image has a label."""

_ORDINAL = ("qwk", "grade_auc")
LOWER_IS_BETTER = ("ece", "nll")
FLOOR = 1e-12

_REASONS = {
    "mcc": "the labels are all one class",
    "qwk": "labels and predictions are all one class",
    "grade_auc": "the labels are all one grade",
    "auc": "no class has both positives and negatives",
}


@dataclass(frozen=True)
class Assessment:
    """Values by metric, None where undefined, and why."""

    values: dict[str, float | None]
    undefined: dict[str, str] = field(default_factory=dict)


def main_metric(task: str) -> str:
    """The metric that judges models of a task on the test images when the spec names none.

    For grades it is quadratic kappa after cut points (`tasks/evaluate/grades.py`). Kappa at the likeliest class is
    blind: where most images have grade 0 it is 0 for a student that ranks them well and never says another grade.
    """
    return MAIN[task]


def selecting_metric(main: str) -> str:
    """The metric that chooses weights and seeds on the validation images, by the main one.

    Kappa after cut points would be fitted and judged on the same images. Its place takes grade_auc, which needs no cut
    points: with 50 validation images of a skewed mixture of five grades, choosing among six models loses 0.019 of test
    kappa to the best one, where kappa after cut points loses 0.033 and kappa at argmax 0.063; from 100 images on the
    first two are alike, and the area for referable grades is nowhere better by more than the noise (120 simulations
    each).
    """
    return FITTED.get(main, main)


def names(task: str) -> list[str]:
    """The metrics of a task, in the order in which `metrics` gives them."""
    kinds = ["accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "mcc", "qwk", "grade_auc", "auc", "ece", "nll"]
    return [k for k in kinds if k not in _ORDINAL or task == "ordinal"]


def probabilities(task: str, logits: np.ndarray) -> np.ndarray:
    """Logits [N, C] to float64 probabilities [N, C]: softmax over the classes, multilabel: sigmoid of each."""
    logits = np.asarray(logits, dtype=np.float64)
    if task == "multilabel":
        return 0.5 * (1 + np.tanh(logits / 2))
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def metrics(
    task: str, prob: np.ndarray, label: np.ndarray, labels: np.ndarray | None = None, *, bins: int = 15
) -> dict[str, float | None]:
    """Point values of every metric of the task; None where undefined (`assess` says why).

    Args:
        task: single, ordinal or multilabel.
        prob: [N, C] probabilities.
        label: [N] int class numbers, -1 unlabelled (such rows do not count); unused for multilabel.
        labels: [N, C] int 0, 1 or -1 (unknown: such a decision does not count), for multilabel.
        bins: of the calibration error.

    Raises:
        ValueError: shapes that do not fit, a probability that is not finite, no labelled row.
    """
    return assess(task, prob, label, labels, bins=bins).values


def assess(
    task: str, prob: np.ndarray, label: np.ndarray, labels: np.ndarray | None = None, *, bins: int = 15
) -> Assessment:
    """Like `metrics`, with a reason for every None."""
    raw = weighted(task, prob, label, labels, np.ones((len(prob), 1)), bins=bins)
    values = {name: float(v[0]) if np.isfinite(v[0]) else None for name, v in raw.items()}
    undefined = [name for name, value in values.items() if value is None]
    return Assessment(values, {name: _REASONS.get(name, "no labelled image counts") for name in undefined})


def weighted(
    task: str,
    prob: np.ndarray,
    label: np.ndarray,
    labels: np.ndarray | None,
    weights: np.ndarray,
    *,
    bins: int = 15,
    only: tuple[str, ...] | None = None,
) -> dict[str, np.ndarray]:
    """Every metric under R sets of weights.

    Args:
        weights: [N, R] non-negative, how often each image counts.
        only: metrics wanted; None means all.

    Returns:
        metric to [R] float64, NaN where it is undefined under those weights.
    """
    prob, label, labels, weights = _checked(task, prob, label, labels, weights)
    wanted = [n for n in names(task) if only is None or n in only]
    if labels is not None:
        return _multilabel(prob, labels, weights, bins, wanted)
    return _single(prob, label, weights, bins, wanted)


def per_class(
    task: str, prob: np.ndarray, label: np.ndarray, labels: np.ndarray | None = None
) -> list[dict[str, float | None]]:
    """Per class: n (positives), recall, precision, f1 and auc; None where undefined."""
    ones = np.ones((len(prob), 1))
    prob, label, labels, ones = _checked(task, prob, label, labels, ones)
    rows = []
    predicted = prob.argmax(axis=1)
    for c in range(prob.shape[1]):
        if labels is not None:
            known = labels[:, c] >= 0
            truth, predicted_c = labels[known, c] == 1, prob[known, c] >= 0.5
        else:
            known = np.ones(len(prob), dtype=bool)
            truth, predicted_c = label == c, predicted == c
        hits = float((truth & predicted_c).sum())
        auc = weighted_auc(prob[known, c], truth, ones[known])[0]
        rows.append(
            {
                "n": float(truth.sum()),
                "recall": hits / truth.sum() if truth.any() else None,
                "precision": hits / predicted_c.sum() if predicted_c.any() else None,
                "f1": 2 * hits / (truth.sum() + predicted_c.sum()) if truth.any() or predicted_c.any() else None,
                "auc": float(auc) if np.isfinite(auc) else None,
            }
        )
    return rows


def reliability(
    task: str, prob: np.ndarray, label: np.ndarray, labels: np.ndarray | None = None, *, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean confidence and share right per equal-width bin, [bins] each, NaN where a bin is empty.

    Confidence is that of the argmax; multilabel pools the labels: probability against the share of positives.
    """
    prob, label, labels, _ = _checked(task, prob, label, labels, np.ones((len(prob), 1)))
    if labels is not None:
        confidence, right = prob[labels >= 0], labels[labels >= 0] == 1
    else:
        confidence, right = prob.max(axis=1), prob.argmax(axis=1) == label
    where = _bin(confidence, bins)
    count = np.bincount(where, minlength=bins).astype(float)
    with np.errstate(invalid="ignore"):
        return (
            count,
            np.bincount(where, confidence, minlength=bins) / count,
            np.bincount(where, right, minlength=bins) / count,
        )


def _checked(
    task: str, prob: np.ndarray, label: np.ndarray, labels: np.ndarray | None, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    if task not in TASKS:
        raise ValueError(f"task {task!r}: one of {', '.join(TASKS)}")
    prob = np.asarray(prob, dtype=np.float64)
    if prob.ndim != 2 or len(weights) != len(prob):
        raise ValueError(f"prob {prob.shape} and weights {weights.shape}: both need a row an image")
    if not np.isfinite(prob).all():
        raise ValueError(f"prob row {int(np.argwhere(~np.isfinite(prob))[0][0])} is not finite")
    if task == "multilabel":
        if labels is None or labels.shape != prob.shape:
            shape = None if labels is None else labels.shape
            raise ValueError(f"labels {shape} must be like prob {prob.shape}")
        if not (labels >= 0).any():
            raise ValueError("no row has a known label")
        return prob, label, labels, weights
    label = np.asarray(label)
    if label.shape != prob.shape[:1] or label.max(initial=-1) >= prob.shape[1]:
        raise ValueError(f"label {label.shape} up to {label.max(initial=-1)} does not fit prob {prob.shape}")
    keep = label >= 0
    if not keep.any():
        raise ValueError("no row has a known label")
    return prob[keep], label[keep], None, weights[keep]


def _single(
    prob: np.ndarray, label: np.ndarray, weights: np.ndarray, bins: int, wanted: list[str]
) -> dict[str, np.ndarray]:
    classes = prob.shape[1]
    predicted = prob.argmax(axis=1)
    table = confusion(label, predicted, classes, weights)
    total = table.sum(axis=(1, 2))
    right = np.trace(table, axis1=1, axis2=2)
    hits, truth, predictions = np.diagonal(table, axis1=1, axis2=2), table.sum(axis=2), table.sum(axis=1)
    out: dict[str, np.ndarray] = {}
    for name in wanted:
        if name in ("accuracy", "micro_f1"):
            out[name] = counted_ratio(right, total)
        elif name == "balanced_accuracy":
            out[name] = _mean(counted_ratio(hits, truth))
        elif name == "macro_f1":
            out[name] = _mean(counted_ratio(2 * hits, truth + predictions))
        elif name == "mcc":
            out[name] = matthews(table)
        elif name == "qwk":
            out[name] = quadratic_kappa(table)
        elif name == "grade_auc":
            out[name] = grade_auc(prob @ np.arange(classes), label, classes, weights)
        elif name == "auc":
            each = [weighted_auc(prob[:, c], label == c, weights) for c in range(classes)]
            out[name] = _mean(np.stack(each, axis=1))
        elif name == "ece":
            out[name] = _calibration(prob.max(axis=1), predicted == label, weights, bins)
        elif name == "nll":
            loss = -np.log(np.maximum(prob[np.arange(len(prob)), label], FLOOR))
            out[name] = counted_ratio(loss @ weights, total)
    return out


def _multilabel(
    prob: np.ndarray, labels: np.ndarray, weights: np.ndarray, bins: int, wanted: list[str]
) -> dict[str, np.ndarray]:
    tables, aucs, eces = [], [], []
    loss, known_weight = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for c in range(prob.shape[1]):
        known = labels[:, c] >= 0
        truth, p, w = labels[known, c] == 1, prob[known, c], weights[known]
        tables.append(confusion(truth.astype(int), (p >= 0.5).astype(int), 2, w))
        if "auc" in wanted:
            aucs.append(weighted_auc(p, truth, w))
        if "ece" in wanted:
            eces.append(_calibration(p, truth, w, bins))
        loss += -np.log(np.maximum(np.where(truth, p, 1 - p), FLOOR)) @ w
        known_weight += w.sum(axis=0)
    table = np.stack(tables, axis=1)  # [R, C, truth, prediction]
    hits, truth_n, predicted_n = table[..., 1, 1], table[..., 1, :].sum(-1), table[..., :, 1].sum(-1)
    right = table[..., 0, 0] + hits
    recalls = np.stack([counted_ratio(hits, truth_n), counted_ratio(table[..., 0, 0], table[..., 0, :].sum(-1))])
    every = {
        "accuracy": lambda: counted_ratio(right.sum(1), table.sum(axis=(1, 2, 3))),
        "balanced_accuracy": lambda: _mean(_mean(np.moveaxis(recalls, 0, -1))),
        "macro_f1": lambda: _mean(counted_ratio(2 * hits, truth_n + predicted_n)),
        "micro_f1": lambda: counted_ratio(2 * hits.sum(1), (truth_n + predicted_n).sum(1)),
        "mcc": lambda: _mean(np.stack([matthews(t) for t in np.moveaxis(table, 1, 0)], axis=1)),
        "auc": lambda: _mean(np.stack(aucs, axis=1)),
        "ece": lambda: _mean(np.stack(eces, axis=1)),
        "nll": lambda: counted_ratio(loss, known_weight),
    }
    return {name: every[name]() for name in wanted}


def _mean(values: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # An all-NaN row is an undefined metric, which stays NaN.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(values, axis=-1)


def _bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip((confidence * bins).astype(int), 0, bins - 1)


def _calibration(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, bins: int) -> np.ndarray:
    if not len(confidence):
        return np.full(weights.shape[1], np.nan)
    _, gap = grouped_sum((confidence - right)[:, None] * weights, _bin(confidence, bins))
    return counted_ratio(np.abs(gap).sum(axis=0), weights.sum(axis=0))
