"""Uncertainty: bootstrap intervals over patients, paired differences, shares of a gap, and t intervals over seeds.

Images of one patient are not independent, so patients are drawn with replacement, each with all its
images (cluster bootstrap; Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). Percentile
intervals, 95 %. Every model is scored on the same resamples, so differences are paired; seeds of one arm
are averaged inside a resample. Where seeds are crossed with patients, each resample draws seeds too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.statistics.counts import counted_ratio
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
    """Metric values of each arm under each resample.

    Attributes:
        seeds: arm to metric to [S, R], NaN where undefined.
    """

    seeds: Mapping[str, Mapping[str, np.ndarray]]

    @property
    def values(self) -> dict[str, dict[str, np.ndarray]]:
        """Means over the seeds: arm to metric to [R], NaN where a seed's is undefined."""
        return {arm: {name: value.mean(axis=0) for name, value in own.items()} for arm, own in self.seeds.items()}

    def interval(self, arm: str, metric: str) -> Interval | None:
        """Percentile interval of one arm's metric; None when fewer than half of the resamples define it."""
        return percentile_interval(self.seeds[arm][metric].mean(axis=0))

    def seed_interval(self, arm: str, metric: str, place: int) -> Interval | None:
        """The same of one of the arm's seeds, by its place."""
        return percentile_interval(self.seeds[arm][metric][place])

    def difference(self, arm: str, other: str, metric: str) -> Interval | None:
        """Percentile interval of arm minus other, paired by resample."""
        return percentile_interval(self.seeds[arm][metric].mean(axis=0) - self.seeds[other][metric].mean(axis=0))

    def crossed(self, metric: str, numbers: Mapping[str, Sequence[int]], *, seed: int = 0) -> dict[str, np.ndarray]:
        """Values [R] of each arm with its seeds drawn with replacement too, once in each resample.

        Arms of the same seed numbers draw the same seeds, so that their differences stay paired. An arm of one seed
        keeps it: what another training of it would bring is not in the interval.

        Args:
            numbers: the seeds of each arm, in the order of its values.
            seed: of the draws.
        """
        drawn: dict[tuple[int, ...], np.ndarray] = {}
        found = {}
        for arm, own in numbers.items():
            values, key = self.seeds[arm][metric], tuple(own)
            if key not in drawn:
                rng = np.random.Generator(np.random.PCG64([seed, *(abs(number) for number in key)]))
                drawn[key] = rng.integers(len(key), size=(len(key), values.shape[1]))
            found[arm] = np.take_along_axis(values, drawn[key], axis=0).mean(axis=0)
        return found


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
        arms: name to one prob [N, C] per seed.
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
            parts[arm].append({m: np.stack([e[m] for e in each]) for m in each[0]})
    return Resampled(
        {arm: {m: np.concatenate([c[m] for c in chunks], axis=1) for m in wanted} for arm, chunks in parts.items()}
    )


def share_interval(
    right: Sequence[np.ndarray], rows: np.ndarray, patient: np.ndarray, *, resamples: int
) -> Interval | None:
    """Percentile interval of the share of `rows` that are right, the mean over seeds, patients resampled.

    Args:
        right: bool [N] of each seed.
        rows: bool [N], those that count; all patients are drawn. At least one.
        patient: [N] names.
    """
    return share_intervals([(right, rows)], patient, resamples=resamples)[0]


def share_intervals(
    shares: Sequence[tuple[Sequence[np.ndarray], np.ndarray]], patient: np.ndarray, *, resamples: int, seed: int = 0
) -> list[Interval | None]:
    """`share_interval` of several shares, each a pair of its `right` and `rows`, on the same resamples.

    The resamples are those of `bootstrap` with the same patients and seed.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    _, who = np.unique(np.asarray(patient, dtype=str), return_inverse=True)
    patients = int(who.max()) + 1
    hits, counts, places = [], [], [0]
    for right, rows in shares:
        hits += [np.bincount(who, np.asarray(each & rows, float), minlength=patients) for each in right]
        counts += [np.bincount(who, np.asarray(rows, float), minlength=patients)] * len(right)
        places.append(len(hits))
    part, whole = np.stack(hits, axis=1), np.stack(counts, axis=1)
    found = []
    step = max(1, _CELLS // patients)
    for start in range(0, resamples, step):
        drawn = rng.multinomial(patients, np.full(patients, 1 / patients), size=min(step, resamples - start))
        found.append(counted_ratio(drawn @ part, drawn @ whole))
    values = np.concatenate(found) if found else np.zeros((0, part.shape[1]))
    return [percentile_interval(values[:, a:b].mean(axis=1)) for a, b in pairwise(places)]


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % score interval of a share of `count` independent cases (Wilson 1927, JASA 22)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def share_of_gap(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> Interval | None:
    """Percentile interval of (value - low) / (high - low), each [R] and paired by resample.

    A resample without a gap has no finite share: it counts as beyond every share, on the side of its numerator. Such an
    interval is None where an end is not finite.

    Source: percentile bootstrap of a ratio (Efron and Tibshirani 1993, chapter 13); only where the interval of the gap
    itself lies above zero.
    """
    part, gap = value - low, high - low
    share = np.where(gap > 0, part / np.where(gap > 0, gap, 1.0), np.copysign(np.inf, part))
    known = share[~np.isnan(part) & ~np.isnan(gap)]
    if not len(known) or 2 * len(known) < len(share):
        return None
    ends = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], method="nearest")
    return Interval(float(ends[0]), float(ends[1]), len(known), len(share)) if np.isfinite(ends).all() else None


def percentile_interval(values: np.ndarray) -> Interval | None:
    """Of resamples [R], NaN where undefined; None when fewer than half of them are defined."""
    defined = values[np.isfinite(values)]
    if not len(defined) or 2 * len(defined) < len(values):
        return None
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(low), float(high), len(defined), len(values))


def t_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student t interval of the mean of paired differences, one per seed; None below two seeds."""
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
