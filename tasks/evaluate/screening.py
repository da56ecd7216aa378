"""Referral at one operating point: a threshold that validation chose, judged on test.

It is computed here once; the report, the gate and the registered model have the same. The threshold is on the
calibrated probability of what is referred, of the decision unit: the images of one exam or patient are decided
together (`tasks.data.decision_units`), by the largest probability of any of them, or by the mean. A unit is as ill as
its worst image.

An image that cannot be graded is referred to a person whatever a network says, and with it its unit. The threshold is
chosen on images that can be graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.statistics.bootstrap import Interval, share_intervals, wilson
from models.statistics.calibration import fit_temperature
from models.statistics.metrics import FLOOR
from models.statistics.ordinal import at_least
from tasks.data.decision_units import IMAGE, Units, units_of
from tasks.data.grade_decision import GradeDecision
from tasks.evaluate.arms import Arm, Truth, mean_of, rounded

POSITIVE = "referable"
"""The class that is referred, in a corpus of two classes."""

FIGURES = ("sensitivity", "specificity", "missed_severe")
"""Shares of units: of the referable that are referred, of the others that are not, of the severe that are not."""

_Share = tuple[list[np.ndarray], np.ndarray]  # bool [U] of each seed, those that are right; bool [U], those that count
_SEVERE = 3  # grade from which one that is missed is told apart: severe diabetic retinopathy and worse
_DIGITS = 6  # of a threshold


@dataclass(frozen=True)
class Referred:
    """What is referred: grades from `first` on, or the class `first` of two.

    Attributes:
        severe: grade from which one that is missed is told apart; None where there is none.
        title: for people.
    """

    task: str
    first: int
    severe: int | None
    title: str

    def truth(self, label: np.ndarray) -> np.ndarray:
        """bool [N] of labels [N]."""
        return np.asarray(label >= self.first if self.task == "ordinal" else label == self.first)

    def probability(self, prob: np.ndarray, temperature: float) -> np.ndarray:
        """[N] calibrated, of probabilities [N, C]."""
        calibrated = GradeDecision(None, temperature).calibrated(prob)
        return at_least(calibrated, self.first) if self.task == "ordinal" else calibrated[:, self.first]


def referred_of(task: str, classes: Sequence[str], first: int | None) -> Referred | None:
    """What a corpus refers; None where nothing is.

    Args:
        first: the first grade that is referred, of a graded corpus.
    """
    if task == "ordinal" and first is not None:
        severe = _SEVERE if first <= _SEVERE < len(classes) else None
        return Referred(task, first, severe, f"grade {first} ({classes[first]}) or worse")
    if task == "single" and len(classes) == 2 and POSITIVE in classes:
        return Referred(task, classes.index(POSITIVE), None, f"class {POSITIVE}")
    return None


@dataclass(frozen=True)
class _Split:
    """The judged images of one split, as referral sees them."""

    label: np.ndarray  # [N]
    ungradable: np.ndarray  # bool [N]
    units: Units

    @classmethod
    def of(cls, catalog: pa.Table, truth: Truth, unit: str, *, gradable: bool) -> _Split:
        places = pc.index_in(pa.array(truth.keys.astype(str)), value_set=catalog["key"].combine_chunks())
        rows = catalog.take(places)
        refused = np.asarray(pc.fill_null(pc.invert(rows["gradable"]), False).to_numpy())
        if gradable:
            rows, label = rows.filter(pa.array(~refused)), truth.label[~refused]
            return cls(label, np.zeros(len(label), bool), units_of(rows, unit))
        return cls(truth.label, refused, units_of(rows, unit))

    def score(self, probability: np.ndarray, aggregate: str) -> np.ndarray:
        """[U] of each unit, of the probability [N] of each image."""
        own = self.units.mean(probability) if aggregate == "mean" else self.units.largest(probability)
        return np.where(self.units.largest(self.ungradable), 1.0, own)

    def worst(self, of: np.ndarray) -> np.ndarray:
        """bool [U]: whether it holds of any image of the unit."""
        return self.units.largest(of)


def screening(
    catalog: pa.Table,
    arms: Sequence[Arm],
    val: Truth,
    test: Truth,
    *,
    referred: Referred,
    unit: str,
    aggregate: str,
    resamples: int,
) -> dict[str, Any]:
    """Referral on the labelled test images by every arm, each seed at its own threshold.

    `title`, `first`, `severe`, `unit`, `aggregate`; `referred`: labelled test images that are ungradable; `counts`: by
    level (the unit, and image beside it) `val`, `test`, `referable`, `severe` units of these, `alone`; `arms`: name to
    FIGURES, means over the seeds with intervals over patients, `image` with the same of single images where the unit is
    none, and `seeds`: the operating point of each. A figure is {value, interval}, None where undefined.

    Args:
        unit: of the decision, as `tasks.data.decision_units.UNITS`.
        aggregate: maximum or mean.
    """
    levels = dict.fromkeys((unit, IMAGE))
    on_val = _Split.of(catalog, val, unit, gradable=True)
    on_test = {level: _Split.of(catalog, test, level, gradable=False) for level in levels}
    kept = _gradable(catalog, val)
    points: dict[str, list[tuple[float, float | None]]] = {}
    for arm in arms:
        points[arm.name] = []
        for prob in arm.val:
            temperature = fit_temperature(np.log(np.maximum(prob, FLOOR)), val.label) if len(val) else 1.0
            score = on_val.score(referred.probability(prob[kept], temperature), aggregate)
            points[arm.name].append((temperature, threshold_of(score, on_val.worst(referred.truth(on_val.label)))))
    found: dict[str, Any] = {
        arm.name: {"seeds": [_point(*p, seed) for p, seed in zip(points[arm.name], arm.seeds, strict=True)]}
        for arm in arms
    }
    counts = {}
    for level, split in on_test.items():
        truth, severe = split.worst(referred.truth(split.label)), _severe(split, referred)
        counts[level] = {
            "val": len(on_val.units) if level == unit else int(kept.sum()),
            "test": len(split.units),
            "referable": int(truth.sum()),
            "severe": int(severe.sum()),
            "alone": split.units.alone,
        }
        shares: list[_Share] = []
        places: list[tuple[str, int | None, str]] = []
        for arm in arms:
            said = [
                None if cut is None else split.score(referred.probability(prob, temperature), aggregate) >= cut
                for prob, (temperature, cut) in zip(arm.test, points[arm.name], strict=True)
            ]
            for place, each in enumerate(said):
                shares += _shares([each], truth, severe)
                places += [(arm.name, place, name) for name in FIGURES]
            shares += _shares(said, truth, severe)
            places += [(arm.name, None, name) for name in FIGURES]
        figures = _figures(shares, split.units.patient, resamples)
        for (name, seed, figure), value in zip(places, figures, strict=True):
            row = found[name] if seed is None else found[name]["seeds"][seed]
            (row if level == unit else row.setdefault(IMAGE, {}))[figure] = value
    for row in found.values():
        row["seeds"] = [{**each, "unit": unit, "aggregate": aggregate, "of": referred.title} for each in row["seeds"]]
    return {
        "title": referred.title,
        "first": referred.first,
        "severe": referred.severe,
        "unit": unit,
        "aggregate": aggregate,
        "referred": int(on_test[unit].ungradable.sum()),
        "counts": counts,
        "arms": found,
    }


def threshold_of(score: np.ndarray, truth: np.ndarray) -> float | None:
    """The threshold of the largest sensitivity + specificity (Youden 1950, Cancer 3(1)); None where a side is missing.

    A unit is referred from the threshold on. Of equal thresholds the lowest, which refers more; six digits, rounded
    down, so that what ships is what was judged.

    Args:
        score: [U].
        truth: bool [U].
    """
    if not truth.any() or truth.all():
        return None
    candidates = np.unique(np.floor(score * 10**_DIGITS) / 10**_DIGITS)
    ill, well = np.sort(score[truth]), np.sort(score[~truth])
    index = 1 - np.searchsorted(ill, candidates) / len(ill) + np.searchsorted(well, candidates) / len(well)
    # Equal sums of fractions may differ in their last bits.
    best = np.flatnonzero(index >= index.max() - 1e-12)[0]
    return round(float(candidates[best]), _DIGITS)


def _gradable(catalog: pa.Table, truth: Truth) -> np.ndarray:
    return ~_Split.of(catalog, truth, IMAGE, gradable=False).ungradable


def _severe(split: _Split, referred: Referred) -> np.ndarray:
    """bool [U]: units with a severe image; none where no grade is told apart."""
    return split.worst(split.label >= (referred.severe if referred.severe is not None else np.inf))


def _point(temperature: float, threshold: float | None, seed: int) -> dict[str, Any]:
    return {"seed": seed, "temperature": temperature, "threshold": threshold}


def _shares(said: Sequence[np.ndarray | None], truth: np.ndarray, severe: np.ndarray) -> list[_Share]:
    """FIGURES as what is right (bool [U] of each seed that has a threshold) and which units count (bool [U])."""
    known = [each for each in said if each is not None]
    return [(known, truth), ([~each for each in known], ~truth), ([~each for each in known], severe)]


def _figures(shares: Sequence[_Share], patient: np.ndarray, resamples: int) -> list[dict[str, Any]]:
    """Value and interval of each share.

    Intervals are those of patients resampled, and at least as wide as Wilson's with as many cases as patients: where
    all are right, no resample says otherwise, however few there are.
    """
    defined = [place for place, (right, rows) in enumerate(shares) if right and rows.any()]
    spans: dict[int, Interval | None] = {}
    if resamples and defined:
        drawn = share_intervals([shares[place] for place in defined], patient, resamples=resamples)
        spans = dict(zip(defined, drawn, strict=True))
    found: list[dict[str, Any]] = []
    for place, (right, rows) in enumerate(shares):
        if place not in defined:
            found.append({"value": None, "interval": None})
            continue
        share = float(np.mean([each[rows].mean() for each in right]))
        span, interval = spans.get(place), None
        if span is not None:
            low, high = wilson(share, len(np.unique(patient[rows])))
            interval = [rounded(min(span.low, low)), rounded(max(span.high, high))]
        found.append({"value": mean_of([share]), "interval": interval})
    return found
