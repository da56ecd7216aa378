"""From predictions of the unlabelled pool to a weight an image: the rules, in their fixed order.

1. no teacher: an image that some teacher has no valid prediction for gets 0;
2. `min_confidence`: the calibrated ensemble is less sure than that: 0;
3. `agreement`: fewer teachers agree with the ensemble: 0;
4. `quantile` q: of the n that are left of a pseudo-class the ceil(q n) surest stay (equals stay together);
5. `cap`: at most so many of a pseudo-class stay, surest first;
6. `balance` N: of a pseudo-class with n > N the N surest stay; one with fewer is repeated, all N // n times, the
   N mod n surest once more, none more than `repeat` times (Noisy Student, Xie et al., arXiv 1911.04252, which knows
   no such bound): weights are then integers;
7. `align`: see `tasks/select/class_prior.py`.

A pseudo-class is the ensemble's top class, its score the confidence. Multilabel: an image counts for every class
with p >= 0.5 (score p), or for `none` without one (score: the confidence); it stays when any of its classes keeps
it, and takes the largest of their repeats, as in repeat-factor sampling (Gupta et al., arXiv 1908.03195): else a
common doubtful finding would drop the images of a rare one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tasks.select.class_prior import align
from tasks.select.ensemble import EnsembleStatistics
from tasks.select.ranking import first
from tasks.spec import SelectSection

NONE = "none"


@dataclass
class PoolWeights:
    """Weights of the pool and how they came about."""

    weight: np.ndarray  # [P] float32
    dropped: dict[str, int] = field(default_factory=dict)  # by rule, in their order
    thresholds: dict[str, float] = field(default_factory=dict)  # of `quantile`, by pseudo-class
    unaligned: np.ndarray | None = None  # [P] float32: weights before `align`


class PseudoClasses:
    """Which pool images belong to which pseudo-class, and with which score."""

    def __init__(self, found: EnsembleStatistics, classes: list[str], *, many: bool) -> None:
        self.found, self.many = found, many
        self.names = [*classes, NONE] if many else classes
        self._confidence = found.confidence[found.pool]
        self._top = found.probability.argmax(axis=1) if not many else None
        self._some = (found.probability >= 0.5).any(axis=1) if many else None

    def of(self, number: int) -> np.ndarray:
        """[P] bool: the images of a pseudo-class."""
        if self._some is None:
            return np.asarray(self._top == number)
        if number == len(self.names) - 1:
            return np.asarray(~self._some)
        return np.asarray(self.found.probability[:, number] >= 0.5)

    def score(self, number: int, rows: np.ndarray) -> np.ndarray:
        """float32 scores of some images for a pseudo-class."""
        if self.many and number < len(self.names) - 1:
            return np.asarray(self.found.probability[rows, number])
        return np.asarray(self._confidence[rows])

    def members(self, active: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Name, rows and scores of every pseudo-class that has active images."""
        for number, name in enumerate(self.names):
            rows = np.flatnonzero(self.of(number) & active)
            if len(rows):
                yield name, rows, self.score(number, rows)

    def counts(self, weight: np.ndarray) -> dict[str, int]:
        """Images with a weight, by pseudo-class."""
        return {name: int((self.of(number) & (weight > 0)).sum()) for number, name in enumerate(self.names)}


def pool_weights(
    found: EnsembleStatistics, section: SelectSection, pseudo: PseudoClasses, target: np.ndarray | None
) -> PoolWeights:
    """Apply the rules of the section.

    Args:
        target: float64 [C], the labelled prior; None where `align` is not asked for.
    """
    active = found.valid
    done = PoolWeights(np.zeros(len(active), np.float32), {"no_teacher": int((~active).sum())})
    keys = found.key[found.pool]

    def keep(rule: str, stays: np.ndarray) -> None:
        nonlocal active
        done.dropped[rule] = int((active & ~stays).sum())
        active = active & stays

    if section.min_confidence > 0:
        keep("min_confidence", found.confidence[found.pool] >= np.float32(section.min_confidence))
    if section.agreement > 0:
        # Shares like 2/3 are written with few digits in a spec.
        keep("agreement", found.agreement >= section.agreement - 1e-3)
    if section.quantile < 1:
        stays, done.thresholds = _surest_share(pseudo, active, section.quantile)
        keep("quantile", stays)
    if section.cap is not None:
        stays = np.zeros_like(active)
        for _, rows, scores in pseudo.members(active):
            stays[rows[first(scores, section.cap, keys[rows])]] = True
        keep("cap", stays)
    done.weight[active] = 1
    if section.balance is not None:
        repeats = _repeats(pseudo, active, section.balance, section.repeat, keys)
        keep("balance", repeats > 0)
        done.weight[:] = repeats
    if section.align is not None and target is not None:
        done.unaligned = done.weight
        done.weight = align(found.probability, done.weight, target, section.align, many=pseudo.many)
    return done


def _surest_share(pseudo: PseudoClasses, active: np.ndarray, share: float) -> tuple[np.ndarray, dict[str, float]]:
    stays = np.zeros_like(active)
    thresholds = {}
    for name, rows, scores in pseudo.members(active):
        # 0.7 * 10 is a little more than 7 in floating point.
        count = math.ceil(share * len(rows) - 1e-9)
        least = np.partition(scores, len(rows) - count)[len(rows) - count]
        stays[rows[scores >= least]] = True
        thresholds[name] = round(float(least), 4)
    return stays, thresholds


def _repeats(pseudo: PseudoClasses, active: np.ndarray, wanted: int, most: int, keys: np.ndarray) -> np.ndarray:
    repeats = np.zeros(len(active), np.float32)
    for _, rows, scores in pseudo.members(active):
        each, over = divmod(wanted, len(rows))
        times = np.full(len(rows), each, np.float32)
        times[first(scores, over, keys[rows])] += 1
        repeats[rows] = np.maximum(repeats[rows], np.minimum(times, most))
    return repeats
