"""Two samples of images: how far apart they are, and how often chance alone sets them as far apart.

Chance is told by permutation: the sides of units (a patient's images of one side) are dealt anew, within strata, and
the distance is measured again (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005). Images of one
patient stay together, because they are alike; single images dealt anew would make chance look smaller than it is. The
p-values hold for samples of any size, so that a small one does not ring more often, and its distances need no
correction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 999
"""Deals of the sides: the smallest p is then 1 / 1000, which fourteen signals at 0.05 still leave room for."""

Distance = Callable[[np.ndarray], np.ndarray]
"""From sides [B, N] (1 new, 0 old; float32) to a distance for each row [B]."""


@dataclass(frozen=True)
class Sides:
    """Which images are new, and what is dealt together.

    Attributes:
        new: bool [N].
        unit: int64 [N], number of a patient; on both sides, or in two strata, it counts as several units.
        stratum: int64 [N]; sides are dealt within each.
    """

    new: np.ndarray
    unit: np.ndarray
    stratum: np.ndarray

    def dealt(self, count: int, seed: int) -> np.ndarray:
        """Sides dealt anew, float32 [count, N]; each stratum keeps its numbers of new and of old units."""
        rng = np.random.default_rng(seed)
        triples = np.stack([self.stratum, self.unit, self.new.astype(np.int64)], axis=1)
        units, member = np.unique(triples, axis=0, return_inverse=True)
        sides = np.zeros((count, len(units)), np.float32)
        for stratum in np.unique(units[:, 0]):
            own = np.flatnonzero(units[:, 0] == stratum)
            few = int(units[own, 2].sum())
            if 0 < few < len(own):
                chosen = np.argpartition(rng.random((count, len(own)), dtype=np.float32), few - 1, axis=1)[:, :few]
                np.put_along_axis(sides, own[chosen], 1.0, axis=1)
            else:
                sides[:, own] = units[own, 2]
        return np.asarray(sides[:, member.reshape(-1)])


def compared(distance: Distance, sides: Sides, seed: int = 0, count: int = PERMUTATIONS) -> tuple[float, float]:
    """The distance between new and old, and its p-value.

    The p-value is (1 + deals at least as far) / (1 + deals), which is never 0 (Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585).
    """
    value = float(distance(sides.new[None].astype(np.float32))[0])
    chance = distance(sides.dealt(count, seed))
    # Sums in another order differ in their last digits; equal distances count as far.
    as_far = int((chance >= value - 1e-6 * max(1.0, abs(value))).sum())
    return value, (1 + as_far) / (1 + count)


def total_variation(kinds: np.ndarray) -> Distance:
    """Half the sum of the differences of shares: the share of images that would have to be of another kind.

    In contrast to the population stability index it is defined where a kind occurs on one side alone.

    Args:
        kinds: int64 [N], number of each image's kind.
    """
    shown = np.eye(int(kinds.max()) + 1, dtype=np.float32)[kinds]

    def distance(sides: np.ndarray) -> np.ndarray:
        new, old = _means(sides, shown)
        return np.asarray(0.5 * np.abs(new - old).sum(axis=1))

    return distance


def largest_prevalence_gap(labels: np.ndarray) -> Distance:
    """Largest difference of a label's prevalence, over labels that both sides know something of.

    Args:
        labels: int8 [N, C]: 1, 0, or -1 unknown.
    """
    shown, known = (labels == 1).astype(np.float32), (labels >= 0).astype(np.float32)

    def distance(sides: np.ndarray) -> np.ndarray:
        parts = []
        for side in (sides, 1 - sides):
            total = side @ known
            parts.append(np.where(total > 0, (side @ shown) / np.maximum(total, 1), np.nan))
        gap = np.abs(parts[0] - parts[1])
        return np.asarray(np.nan_to_num(gap, nan=0.0).max(axis=1))

    return distance


def largest_distribution_gap(values: np.ndarray) -> Distance:
    """Largest difference of the two distribution functions (Kolmogorov and Smirnov).

    Args:
        values: float [N].
    """
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) > 0, True))

    def distance(sides: np.ndarray) -> np.ndarray:
        own = sides[:, order]
        new = np.cumsum(own, axis=1)[:, ends]
        old = (ends + 1)[None] - new
        return np.asarray(np.abs(new / np.maximum(new[:, -1:], 1) - old / np.maximum(old[:, -1:], 1)).max(axis=1))

    return distance


def energy_coefficient(points: np.ndarray) -> Distance:
    """Root of the energy distance as a share of twice the mean distance between the sides: 0 alike, 1 two points.

    The energy distance grows with the square of the share of images that are unlike the others, its root with the
    share. It is unbiased before the root; what is below 0 is 0 (Szekely and Rizzo 2013,
    doi:10.1016/j.jspi.2013.03.018). Columns are scaled by their deviation over both sides: that of one side would be
    another one after a deal.

    Args:
        points: float [N, D].
    """
    scale = points.std(axis=0)
    used = scale > 1e-9 * max(1e-12, float(scale.max(initial=0.0)))
    scaled = points[:, used] / scale[used]
    between = _distances(scaled).astype(np.float32)
    total = float(between.sum(dtype=np.float64))

    def distance(sides: np.ndarray) -> np.ndarray:
        reached = sides @ between
        new = (reached * sides).sum(axis=1, dtype=np.float64)
        across = (reached * (1 - sides)).sum(axis=1, dtype=np.float64)
        n = sides.sum(axis=1, dtype=np.float64)
        m = sides.shape[1] - n
        inside = new / np.maximum(n * (n - 1), 1) + (total - new - 2 * across) / np.maximum(m * (m - 1), 1)
        mean = across / np.maximum(n * m, 1)
        share = np.where(mean > 0, (2 * mean - inside) / np.where(mean > 0, 2 * mean, 1), 0.0)
        return np.sqrt(np.maximum(share, 0.0))

    return distance


def holm(values: Sequence[float]) -> list[float]:
    """p-values of several tests as they count together: all at once err with the level that is asked of each.

    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(values, kind="stable")
    found, least = [1.0] * len(values), 0.0
    for place, number in enumerate(order):
        least = max(least, min(1.0, values[number] * (len(values) - place)))
        found[number] = least
    return found


def _distances(points: np.ndarray) -> np.ndarray:
    """Euclidean distances [N, N] of points [N, D], by one product of matrices."""
    centred = points - points.mean(axis=0)
    square = (centred**2).sum(axis=1)
    found = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * centred @ centred.T, 0))
    np.fill_diagonal(found, 0)
    return np.asarray(found)


def _means(sides: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of rows [N, C] over the new and over the old side, [B, C] each."""
    count = sides.sum(axis=1, keepdims=True)
    new = sides @ shown
    old = shown.sum(axis=0, keepdims=True) - new
    return new / np.maximum(count, 1), old / np.maximum(sides.shape[1] - count, 1)
