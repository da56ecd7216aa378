"""A shift of the class logits after training: log prior times a strength that validation chooses.

Menon et al. 2021 (arXiv:2007.07314) subtract tau * log prior from the logits of a trained network, which with tau = 1
is best for balanced accuracy where probabilities are right. No tau is best for every metric: accuracy wants 0, macro-F1
and Matthews correlation want something between, and a network trained with the adjustment in its loss wants it taken
back (a negative tau). So tau is chosen on validation for the metric that matters.
"""

from __future__ import annotations

import numpy as np

from models.statistics.metrics import FLOOR, weighted

DECISIONS = ("macro_f1", "balanced_accuracy", "accuracy", "mcc")
"""Metrics that a shift can be chosen for: those of decisions, larger is better."""

STRENGTHS = tuple(round(0.1 * step, 1) for step in range(-15, 16))
RESAMPLES = 200


def log_prior(counts: np.ndarray) -> np.ndarray:
    """Log shares float64 [C] of class counts [C]; a class that never occurs counts as half an image."""
    held = np.maximum(np.asarray(counts, dtype=np.float64), 0.5)
    return np.asarray(np.log(held / held.sum()))


def shift_of(strength: float, prior: np.ndarray) -> np.ndarray:
    """What is added to the logits, [C]: -strength * log prior, its mean taken away (a constant decides nothing)."""
    shift = -strength * prior
    return np.asarray(shift - shift.mean())


def shifted(prob: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Probabilities [N, C] whose logits have `shift` [C] added, scaled to sum 1; float64."""
    logits = np.log(np.maximum(prob, FLOOR)) + shift
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_strength(prob: np.ndarray, label: np.ndarray, prior: np.ndarray, metric: str, patient: np.ndarray) -> float:
    """The strength of `STRENGTHS` for the best `metric`, the smallest that cannot be told from it.

    Of the strengths whose figure lies within one standard error of the best one's, by paired resamples of patients, the
    one nearest to 0 is taken (Breiman et al. 1984, rule of one standard error): a few images move a figure more than
    most shifts do, and no shift is what they must be convinced against.

    Args:
        prob: [N, C] validation probabilities.
        label: [N] int, -1 unlabelled.
        prior: [C] log shares of the classes in training.
        metric: one of `DECISIONS`.
        patient: [N] names; images of equal name are drawn together.

    Returns:
        0 without labelled images, or where the metric is undefined.
    """
    if metric not in DECISIONS:
        raise ValueError(f"metric {metric!r}: one of {', '.join(DECISIONS)}")
    known = label >= 0
    if not known.any():
        return 0.0
    prob, label = prob[known], label[known]
    _, who = np.unique(np.asarray(patient, dtype=str)[known], return_inverse=True)
    patients = int(who.max()) + 1
    rng = np.random.Generator(np.random.PCG64(0))
    drawn = rng.multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)
    # The first column is the sample itself.
    weights = np.concatenate([np.ones((len(label), 1)), drawn.T[who].astype(np.float64)], axis=1)
    found = np.stack(
        [
            weighted("single", shifted(prob, shift_of(tau, prior)), label, None, weights, only=(metric,))[metric]
            for tau in STRENGTHS
        ]
    )
    if not np.isfinite(found[:, 0]).all():
        return 0.0
    best = int(np.argmax(found[:, 0]))
    behind = found[best] - found
    spread = np.nanstd(behind[:, 1:], axis=1, ddof=1)
    alike = [tau for tau, less, error in zip(STRENGTHS, behind[:, 0], spread, strict=True) if less <= error]
    return min(alike, key=lambda tau: (abs(tau), -tau))
