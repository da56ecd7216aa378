"""Temperature scaling (Guo et al., arXiv 1706.04599)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_LOG_RANGE = math.log(100.0)

_GOLDEN = (math.sqrt(5.0) - 1) / 2


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T in [0.01, 100] that maximises the likelihood of logits / T.

    Args:
        logits: [N, C], or [V, N, C] of V views whose probabilities are averaged.
        labels: [N] int class numbers (softmax), or [N, C] with 1, 0 and -1 for unknown (sigmoid per class).

    Returns:
        T to four significant digits, so that the last bits of logits have no effect; 1 without labels.
    """
    known = labels >= 0
    if not known.any():
        return 1.0
    logits = logits.astype(np.float64)
    rows = np.flatnonzero(known)

    def loss(log_t: float) -> float:
        scaled = logits * math.exp(-log_t)
        if logits.ndim == 3:
            return float(-_log_mean_likelihood(scaled, labels)[known].mean())
        if labels.ndim == 1:
            return float((_log_sum_exp(scaled[rows]) - scaled[rows, labels[rows]]).mean())
        # log(1 + e^x) - y x is the negative log-likelihood of a logit x.
        return float((np.logaddexp(0.0, scaled) - labels * scaled)[known].mean())

    return float(f"{math.exp(_minimum(loss, -_LOG_RANGE, _LOG_RANGE)):.4g}")


def _log_mean_likelihood(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logarithm of the labels' mean probability over views, like `labels`; of any value where one is unknown."""
    if labels.ndim == 1:
        own = np.take_along_axis(logits, np.maximum(labels, 0)[None, :, None], axis=2)[..., 0]
        log_p = own - np.logaddexp.reduce(logits, axis=2)
    else:
        log_p = -np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
    return np.asarray(np.logaddexp.reduce(log_p, axis=0) - math.log(len(logits)))


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden section search: of one view, minus the log likelihood is convex in 1 / T, so it has one minimum in log T.

    Of a mean over views it need not be convex; the search then ends in one of its minima.
    """
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
