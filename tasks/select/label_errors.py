"""Likely label errors by confident learning (Northcutt et al., arXiv 1911.00068, section 3.1).

The threshold of a class is the mean probability that judges give it in the images labelled so. A label is suspected
when its own probability is below its threshold and another class reaches its own: that class (the likeliest, if
several do) is suggested, and the margin is its probability less the label's. Thresholds by class forgive teachers
that are less sure of some classes. Only judges that did not learn the label they judge can find it wrong.

Multilabel: every known label is such a question of its own, between present and absent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TRACE = 1e-7
"""What rounding may do to the mean of equal probabilities."""


@dataclass(frozen=True)
class Suspicions:
    """Suspected labels, largest margin first; [S] each."""

    row: np.ndarray  # int64: position among the judged images
    given: np.ndarray  # int64: class number; multilabel: of the class, whatever is said of it
    suggested: np.ndarray  # int64: class number; multilabel: 1 present, 0 absent
    margin: np.ndarray  # float64

    def __len__(self) -> int:
        return len(self.row)


def suspect(verdict: np.ndarray, given: np.ndarray, keys: np.ndarray) -> Suspicions:
    """Apply the rule.

    Args:
        verdict: float32 [J, C], probabilities of judges that did not learn these labels.
        given: int [J] class numbers, or [J, C] with 1, 0 and -1 for unknown.
        keys: [J] str; they settle ties.
    """
    found = _many(verdict, given) if given.ndim == 2 else _single(verdict, given)
    order = np.lexsort((found.given, keys[found.row].astype(str), -found.margin))
    return Suspicions(found.row[order], found.given[order], found.suggested[order], found.margin[order])


def _single(verdict: np.ndarray, given: np.ndarray) -> Suspicions:
    rows = np.arange(len(given))
    own = verdict[rows, given].astype(np.float64)
    count = np.bincount(given, minlength=verdict.shape[1])
    with np.errstate(invalid="ignore"):
        thresholds = np.bincount(given, own, minlength=verdict.shape[1]) / count
    # A class that nobody was given has no threshold: NaN, which nothing reaches.
    rivals = np.where(verdict >= thresholds - _TRACE, verdict, -np.inf)
    rivals[rows, given] = -np.inf
    suggested = rivals.argmax(axis=1)
    best = rivals[rows, suggested].astype(np.float64)
    hit = np.flatnonzero((own < thresholds[given] - _TRACE) & np.isfinite(best))
    return Suspicions(hit, given[hit].astype(np.int64), suggested[hit], (best - own)[hit])


def _many(verdict: np.ndarray, given: np.ndarray) -> Suspicions:
    parts = []
    for number in range(given.shape[1]):
        known = np.flatnonzero(given[:, number] >= 0)
        present = verdict[known, number].astype(np.float64)
        both = np.stack([1 - present, present], axis=1)
        one = _single(both, given[known, number].astype(np.int64))
        parts.append((known[one.row], np.full(len(one), number), one.suggested, one.margin))
    row, label, suggested, margin = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Suspicions(row, label, suggested, margin)
