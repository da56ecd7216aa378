"""The class prior of the labelled images, and weights that bring the class mass of the pool to it.

Let p_i be the ensemble's probabilities of image i, w_i its weight so far, M the sum of w_i, t the prior of the
labelled training images. Each weight changes within a bounded factor: the new weight is

    w_i' = w_i clip(f . p_i, 1 / b, b),   with f in R^C such that   sum of w_i' p_i = M t.

These are the weights nearest to w_i, in the sense of sum of (w_i' - w_i)^2 / w_i, that meet the prior within the
bounds: calibration of a sample to known totals, truncated linear case (Deville and Saerndal, JASA 87 (1992) 376-382).
f minimises a convex function whose gradient is the error of the mass, so Newton's method finds it. A trace of ridge
around f = 1 leaves alone what the pool cannot decide, and settles what happens where the bounds cannot meet the prior:
the mass then comes as near as they allow in the chi-squared sense, errors of a class counted against its share. t sums
to 1, so the sum of weights stays M, also where the prior is out of reach: pool and labelled images keep their shares
of a batch.

Multilabel: an image has 2 C parts, p_c / C and (1 - p_c) / C, which sum to 1 again; the prior of class c is its share
of positives among its known labels, or what the pool has now where no label is known.

The target is the prior and never the uniform distribution (compare the `gt` target of distribution alignment in
USB): a student of evenly weighted grades scores worse by weighted kappa (Huang et al. 2023, arXiv 2110.14160).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.data.corpus import Corpus
from tasks.select.ensemble import EnsembleStatistics

BLOCK = 1 << 14
"""Images a block: float64 copies of probabilities stay in the processor's cache."""

RIDGE = 1e-4
"""Error that the ridge leaves of a class's mass, relative to its share, for each unit of f - 1."""

STEPS = 60
_WHOLE = 0.999  # share of the ridge that the sum of weights is spared: without it, a prior out of reach shrinks all
_CLOSE = 1e-5
"""Error of a class's mass, relative to its share, that ends the search."""


def labelled_counts(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Labelled training images of every class, int64 [C], and of how many it is known, int64 [C]."""
    count = np.zeros(len(corpus.classes), np.int64)
    known = np.zeros_like(count)
    for shard in corpus.of_split("train"):
        if shard.labels is None:
            count += np.bincount(shard.label[shard.labelled], minlength=len(count))
            known += int(shard.labelled.sum())
        else:
            count += (shard.labels == 1).sum(axis=0)
            known += (shard.labels >= 0).sum(axis=0)
    return count, known


def prior(count: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Share of every class among the images whose label is known, float64 [C]; NaN where none is."""
    return np.where(known > 0, count / np.maximum(known, 1), np.nan)


def mass(found: EnsembleStatistics, weight: np.ndarray) -> np.ndarray:
    """Weighted mean probability of every class over the pool, float64 [C]; zeros for a pool without weight."""
    total = float(weight.sum(dtype=np.float64))
    if total == 0:
        return np.zeros(found.probability.shape[1])
    # einsum adds up in float64 without a float64 copy of all probabilities.
    return np.asarray(np.einsum("nc,n->c", found.probability, weight.astype(np.float64)) / total)


def shares(values: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """By class, to four decimals; None where unknown."""
    return {
        name: None if np.isnan(value) else round(float(value), 4) for name, value in zip(classes, values, strict=True)
    }


def align(
    probability: np.ndarray, weight: np.ndarray, target: np.ndarray, bound: float, *, many: bool = False
) -> np.ndarray:
    """Weights after alignment, float32 [P] to four decimals.

    Args:
        probability: float32 [P, C].
        weight: float32 [P], 0 for images that are dropped.
        target: float64 [C]: prior shares that sum to 1; multilabel: shares of positives, NaN where none is known.
        bound: b > 1.
    """
    active = np.flatnonzero(weight)
    if not len(active):
        return weight
    pool = _Pool(probability, weight, active, bound, many=many)
    now = pool.evaluate(np.ones(pool.size)).mass
    wanted = np.concatenate([target, 1 - target]) / len(target) if many else target
    wanted = np.where(np.isnan(wanted), now, wanted)
    aligned = np.zeros_like(weight)
    aligned[active] = np.round(weight[active] * pool.clipped(_solved(pool, wanted, now)), 4)
    return aligned


@dataclass(frozen=True)
class _Evaluation:
    """The convex function at some f."""

    value: float  # sum of w_i G(f . p_i) / M, with G' = clip
    mass: np.ndarray  # [size]: its gradient, sum of w_i' p_i / M
    curvature: np.ndarray  # [size, size]: its Hessian


class _Pool:
    """Active images, read in blocks."""

    def __init__(
        self, probability: np.ndarray, weight: np.ndarray, active: np.ndarray, bound: float, *, many: bool
    ) -> None:
        self.probability, self.weight, self.active, self.many = probability, weight, active, many
        self.least, self.most = 1 / bound, bound
        self.total = float(weight[active].sum(dtype=np.float64))
        self.size = probability.shape[1] * (2 if many else 1)

    def parts(self, rows: np.ndarray) -> np.ndarray:
        """float64 [rows, size]; every row sums to 1."""
        block = self.probability[rows].astype(np.float64)
        return np.concatenate([block, 1 - block], axis=1) / block.shape[1] if self.many else block

    def evaluate(self, f: np.ndarray) -> _Evaluation:
        # einsum, not @: on busy cores BLAS threads wait for each other and take ten times as long.
        value, mass, curvature = 0.0, np.zeros(self.size), np.zeros((self.size, self.size))
        for start in range(0, len(self.active), BLOCK):
            rows = self.active[start : start + BLOCK]
            parts, weight = self.parts(rows), self.weight[rows].astype(np.float64)
            dot = np.einsum("nc,c->n", parts, f)
            held = np.clip(dot, self.least, self.most)
            # The integral of clip: u^2 / 2 inside the bounds, a line outside.
            value += float(weight @ (held * dot - held**2 / 2))
            mass += np.einsum("nc,n->c", parts, weight * held)
            inside = parts * (weight * (held == dot))[:, None]
            curvature += np.einsum("nc,nd->cd", parts, inside)
        return _Evaluation(value / self.total, mass / self.total, curvature / self.total)

    def clipped(self, f: np.ndarray) -> np.ndarray:
        """Factor of every active image, [A]."""
        factors = [
            np.clip(np.einsum("nc,c->n", self.parts(self.active[start : start + BLOCK]), f), self.least, self.most)
            for start in range(0, len(self.active), BLOCK)
        ]
        return np.concatenate(factors)


def _solved(pool: _Pool, wanted: np.ndarray, now: np.ndarray) -> np.ndarray:
    """f, by Newton's method with halved steps where a whole one leads up."""
    share = np.maximum(np.maximum(wanted, now), 1 / pool.total)
    ridge = RIDGE * (np.diag(share) - _WHOLE * np.outer(share, share) / share.sum())

    def at(f: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        at_f = pool.evaluate(f)
        penalty = ridge @ (f - 1)
        value = at_f.value - wanted @ f + (f - 1) @ penalty / 2
        return value, at_f.mass - wanted + penalty, at_f.curvature + ridge

    f = np.ones(pool.size)
    value, gradient, curvature = at(f)
    step, length = np.linalg.solve(curvature, -gradient), 1.0
    for _ in range(STEPS):
        if np.abs(gradient / share).max() < _CLOSE:
            break
        there = at(f + length * step)
        if there[0] > value + 1e-4 * length * (gradient @ step) + 1e-12:
            length /= 2
            continue
        f = f + length * step
        value, gradient, curvature = there
        step, length = np.linalg.solve(curvature, -gradient), 1.0
    return f
