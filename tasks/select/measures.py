"""How sure teachers are of an image, and how much they agree: numbers a row, from probabilities.

Shapes: K teachers, N rows, C classes. `each` [K, N, C] are their probabilities, `mean` [N, C] the ensemble's.
Single and ordinal corpora: rows sum to 1, and the top class speaks. Multilabel corpora: every class is a decision
of its own at 0.5, and a row's number is the mean over its classes; there is no top class.
"""

from __future__ import annotations

import numpy as np


def confidence(mean: np.ndarray, *, many: bool) -> np.ndarray:
    """[N]: the largest probability; multilabel: mean over classes of max(p, 1 - p)."""
    return np.asarray(np.maximum(mean, 1 - mean).mean(axis=-1) if many else mean.max(axis=-1))


def agreement(each: np.ndarray, mean: np.ndarray, *, many: bool) -> np.ndarray:
    """[N] in 0..1: share of teachers whose top class is the ensemble's; multilabel: whose decision is, mean over C."""
    if many:
        return np.asarray(((each >= 0.5) == (mean >= 0.5)).mean(axis=(0, 2)))
    return np.asarray((each.argmax(axis=-1) == mean.argmax(axis=-1)).mean(axis=0))


def entropy(prob: np.ndarray, *, many: bool) -> np.ndarray:
    """Shannon entropy over the last axis in nats; multilabel: mean over classes of the binary entropy."""
    if many:
        return np.asarray((_surprise(prob) + _surprise(1 - prob)).mean(axis=-1))
    return np.asarray(_surprise(prob).sum(axis=-1))


def disagreement(each: np.ndarray, mean: np.ndarray, *, many: bool) -> np.ndarray:
    """[N]: generalised Jensen-Shannon divergence in nats, H(mean of p_k) - mean of H(p_k) (Lin 1991); 0 for K = 1."""
    apart = entropy(mean, many=many) - entropy(each, many=many).mean(axis=0)
    # Rounding may leave a trace below zero.
    return np.asarray(np.maximum(apart, 0))


def _surprise(prob: np.ndarray) -> np.ndarray:
    return np.asarray(-prob * np.log(np.maximum(prob, np.finfo(np.float64).tiny)))
