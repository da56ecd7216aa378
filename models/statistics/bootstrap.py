"""Uncertainty: bootstrap intervals over patients, paired differences, and t intervals over seeds.

Images of one patient are not independent, so patients are drawn with replacement, each with all its
images (cluster bootstrap; Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). Percentile
intervals, 95 %. Every model is scored on the same resamples, so differences are paired; seeds of one arm
are averaged inside a resample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.statistics.metrics import weighted

LEVEL = 0.95
_CELLS = 4_000_000  # weights held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; `defined` of the `drawn` resamples had a value."""

    low: float
    high: float
    defined: int
    drawn: int


@dataclass(frozen=True)
class Resampled:
    """Metric values of each arm under each resample: arm to metric to [R], NaN where undefined."""

    values: Mapping[str, Mapping[str, np.ndarray]]

    def interval(self, arm: str, metric: str) -> Interval | None:
        """Percentile interval of one arm's metric; None when fewer than half of the resamples define it."""
        return _percentile(self.values[arm][metric])

    def difference(self, arm: str, other: str, metric: str) -> Interval | None:
        """Percentile interval of arm minus other, paired by resample."""
        return _percentile(self.values[arm][metric] - self.values[other][metric])


def bootstrap(
    task: str,
    arms: Mapping[str, Sequence[np.ndarray]],
    label: np.ndarray,
    labels: np.ndarray | None,
    patient: np.ndarray,
    *,
    resamples: int,
    metrics: Iterable[str],
    bins: int = 15,
    seed: int = 0,
) -> Resampled:
    """Score every arm on the same resamples of patients.

    Args:
        task: single, ordinal or multilabel.
        arms: name to one prob [N, C] per seed; their values are averaged within a resample.
        label: [N] int, -1 unlabelled.
        labels: [N, C] int for multilabel, else None.
        patient: [N] names; images of equal name are drawn together.
        resamples: number of resamples.
        metrics: names from `models.statistics.metrics.names`.
        seed: of the resamples; equal seeds give equal resamples on every machine.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    _, who = np.unique(np.asarray(patient, dtype=str), return_inverse=True)
    patients = int(who.max()) + 1
    wanted = tuple(metrics)
    parts: dict[str, list[dict[str, np.ndarray]]] = {arm: [] for arm in arms}
    step = max(1, _CELLS // len(who))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(patients, np.full(patients, 1 / patients), size=min(step, resamples - start))
        weights = drawn.T[who].astype(np.float64)
        for arm, seeds in arms.items():
            each = [weighted(task, p, label, labels, weights, bins=bins, only=wanted) for p in seeds]
            parts[arm].append({m: np.mean([e[m] for e in each], axis=0) for m in each[0]})
    return Resampled(
        {arm: {m: np.concatenate([c[m] for c in chunks]) for m in wanted} for arm, chunks in parts.items()}
    )


def t_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student t interval of the mean of paired differences, one per seed; None below two seeds."""
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _percentile(values: np.ndarray) -> Interval | None:
    defined = values[np.isfinite(values)]
    if not len(defined) or 2 * len(defined) < len(values):
        return None
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(low), float(high), len(defined), len(values))
