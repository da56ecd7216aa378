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
        logits: [N, C].
        labels: [N] int class numbers (softmax), or [N, C] with 1, 0 and -1 for unknown (sigmoid per class).

    Returns:
        T to four significant digits, so that the last bits of logits have no effect; 1 without labels.
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

    return float(f"{math.exp(_minimum(loss, -_LOG_RANGE, _LOG_RANGE)):.4g}")


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
