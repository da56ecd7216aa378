"""Referral at one threshold: chosen on validation images, judged on test images, patients resampled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.bootstrap import share_interval
from models.statistics.ordinal import at_least
from tasks.data.grade_decision import GradeDecision
from tasks.gate.rules import FAILED, NOT_JUDGED, PASSED, Ruling
from tasks.spec.gate import GateSection

POSITIVE = "referable"
"""The class that is referred, in a corpus of two classes."""


@dataclass(frozen=True)
class Referral:
    """Whether images are to be referred, and how likely a student calls it, on one split.

    Attributes:
        probability: [N] of referable disease, calibrated.
        truth: [N] bool.
        patient: [N] names.
    """

    probability: np.ndarray
    truth: np.ndarray
    patient: np.ndarray


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold at or above which an image is referred, with what it gave on test images.

    `sensitivity` and `specificity` are (value, interval); the interval is None where fewer than half of the resamples
    define it.
    """

    threshold: float
    sensitivity: tuple[float, list[float] | None]
    specificity: tuple[float, list[float] | None]

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, six digits."""
        return {
            "threshold": round(self.threshold, 6),
            **{
                name: {"value": round(value, 6), "interval": None if span is None else [round(end, 6) for end in span]}
                for name, (value, span) in (("sensitivity", self.sensitivity), ("specificity", self.specificity))
            },
        }


def referral_of(
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    patients: Mapping[str, str],
    ungradable: Collection[str] = (),
) -> Referral | None:
    """Rows of the report's table of predictions of one student and split; None where nothing is referred.

    Args:
        facts: of the report's manifest.
        rows: with key, label and prob.
        patients: by key; an image without one stands for itself.
        ungradable: keys of images that are referred whatever the student says.
    """
    if not rows:
        return None
    prob = np.array([row["prob"] for row in rows], np.float64)
    label = np.array([row["label"] for row in rows])
    names = np.array([patients.get(row["key"]) or row["key"] for row in rows], dtype=str)
    always = np.array([row["key"] in ungradable for row in rows])
    first = facts.get("grades", {}).get("referable")
    if first is not None:
        best = facts["best"]
        reading = next(r for r in facts["grades"]["readings"][best["arm"]] if r["seed"] == best["seed"])
        calibrated = GradeDecision(None, reading["temperature"]).calibrated(prob)
        return Referral(np.where(always, 1.0, at_least(calibrated, first)), label >= first, names)
    if facts["task"] == "single" and len(facts["classes"]) == 2 and POSITIVE in facts["classes"]:
        place = facts["classes"].index(POSITIVE)
        return Referral(np.where(always, 1.0, prob[:, place]), label == place, names)
    return None


def operating_point(val: Referral, test: Referral, *, resamples: int) -> OperatingPoint | None:
    """The threshold of the largest sensitivity + specificity on validation (Youden 1950, Cancer 3(1)), on test.

    Of equal thresholds the lowest, which refers more. None where a split lacks one of the two sides. Intervals are
    those of patients resampled, and at least as wide as Wilson's with as many cases as patients: where all are right,
    no resample says otherwise, however few there are.
    """
    if any(not side.any() or side.all() for side in (val.truth, test.truth)):
        return None
    candidates = np.unique(val.probability)
    index = [
        (val.probability[val.truth] >= each).mean() + (val.probability[~val.truth] < each).mean() for each in candidates
    ]
    threshold = float(candidates[int(np.argmax(index))])
    referred = test.probability >= threshold
    sides = []
    for side, right in ((test.truth, referred), (~test.truth, ~referred)):
        share, patients = float(right[side].mean()), len(np.unique(test.patient[side]))
        span = share_interval([right], side, test.patient, resamples=resamples) if resamples else None
        low, high = _wilson(share, patients)
        sides.append((share, None if span is None else [min(span.low, low), max(span.high, high)]))
    return OperatingPoint(threshold, *sides)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """95 % score interval of a share of independent cases (Wilson 1927, JASA 22)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def rule_on_screening(found: OperatingPoint | None, section: GateSection) -> list[Ruling]:
    """Rulings on sensitivity and specificity by the lower ends of their intervals."""
    rulings = []
    for name in ("sensitivity", "specificity"):
        least = getattr(section, name)
        if least is None:
            continue
        asks = f"the 95 % interval begins at {least:g} or above (gate.{name})"
        if found is None:
            why = "validation or test has no image of one of the two sides"
            rulings.append(Ruling(name, NOT_JUDGED, why, asks))
            continue
        value, span = getattr(found, name)
        if span is None:
            rulings.append(Ruling(name, NOT_JUDGED, f"{value:.3f}, without an interval", asks))
            continue
        figure = f"{value:.3f} [{span[0]:.3f}, {span[1]:.3f}] at threshold {found.threshold:.3f}"
        rulings.append(Ruling(name, PASSED if span[0] >= least else FAILED, figure, asks))
    return rulings
