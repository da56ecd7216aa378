"""Temperature scaling of teachers on validation labels (Guo et al., arXiv 1706.04599), and what it brought.

Every threshold below reads a probability, so teachers are calibrated before anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from models.metrics import probabilities, weighted
from tasks.corpus import Corpus
from tasks.label.lookup import Teaching

_REACH = math.log(100.0)
_GOLDEN = (math.sqrt(5.0) - 1) / 2


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T in [0.01, 100] that makes logits / T most likely.

    Args:
        logits: [N, C].
        labels: [N] int class numbers (softmax), or [N, C] with 1, 0 and -1 for unknown (sigmoid per class).

    Returns:
        T to four significant digits, so that the last bits of logits do not reach weights; 1 without labels.
    """
    known = labels >= 0
    if not known.any():
        return 1.0
    logits = logits.astype(np.float64)

    def loss(log_t: float) -> float:
        scaled = logits * math.exp(-log_t)
        if labels.ndim == 1:
            rows = np.flatnonzero(known)
            return float((_log_sum_exp(scaled[rows]) - scaled[rows, labels[rows]]).mean())
        # log(1 + e^x) - y x is the negative log-likelihood of a logit x.
        return float((np.logaddexp(0.0, scaled) - labels * scaled)[known].mean())

    return float(f"{math.exp(_minimum(loss, -_REACH, _REACH)):.4g}")


def calibrate(corpus: Corpus, teaching: Teaching, *, fit: bool) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Temperature of every teacher, and its NLL and ECE on labelled validation images before and after.

    Args:
        fit: False leaves every temperature at 1.

    Returns:
        temperatures by teacher; by teacher `images`, `nll`, `nll_raw`, `ece`, `ece_raw` (raw: at temperature 1;
        `models.metrics` defines both), or nothing where no validation image is labelled.
    """
    parts, labels = [], []
    for number, shard in enumerate(corpus.shards):
        if shard.split == "val":
            taught = teaching.rows(number, 0)
            use = taught.valid & shard.labelled
            parts.append(taught.logits[:, use])
            labels.append((shard.label if shard.labels is None else shard.labels)[use])
    if not sum(len(part) for part in labels):
        return dict.fromkeys(teaching.teachers, 1.0), {}
    logits, truth = np.concatenate(parts, axis=1), np.concatenate(labels)
    temperatures = {name: fit_temperature(logits[k], truth) if fit else 1.0 for k, name in enumerate(teaching.teachers)}
    figures = {}
    for k, (name, temperature) in enumerate(temperatures.items()):
        raw, scaled = (_figures(corpus.task, logits[k] / t, truth) for t in (1.0, temperature))
        figures[name] = {"images": len(truth), **scaled, **{f"{n}_raw": value for n, value in raw.items()}}
    return temperatures, figures


def _figures(task: str, logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    many = truth if truth.ndim == 2 else None
    prob = probabilities(task, logits)
    found = weighted(task, prob, truth, many, np.ones((len(prob), 1)), only=("nll", "ece"))
    return {name: round(float(value[0]), 4) for name, value in found.items()}


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden section search: the likelihood is convex in 1 / T, so it has one minimum in log T."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-6:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
