"""Points of ROC, precision-recall and reliability curves, on test images, and the operating point among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.calibration import fit_temperature
from models.statistics.counts import weighted_auc
from models.statistics.metrics import FLOOR, probabilities, reliability
from models.statistics.ordinal import at_least
from tasks.data.grade_decision import GradeDecision
from tasks.evaluate.titles import title_of
from tasks.report.predictions import Predicted, PredictionTable

_MOST = 8  # curves in one picture
_POINTS = 400  # of a curve; more cannot be seen
_POSITIVE = "referable"


@dataclass(frozen=True)
class Curve:
    """One line of a picture.

    Attributes:
        name: for the legend.
        x, y: [P].
        area: under a ROC curve, or the average precision; None where it is no such curve.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    area: float | None = None


@dataclass(frozen=True)
class Ranking:
    """ROC and precision-recall curves of one question, such as referral.

    Attributes:
        question: what is told apart.
        roc: false alarms (1 - specificity) to sensitivity.
        recall: recall to precision.
        share: of test images that are positive, where all curves have the same question; the precision of chance.
        point: (false alarms, sensitivity, precision) of the operating point on test images.
    """

    question: str
    roc: list[Curve]
    recall: list[Curve]
    share: float | None
    point: tuple[float, float, float] | None


def ranking(table: PredictionTable, point: Mapping[str, Any] | None) -> Ranking | None:
    """The curves of a report's best student, beside other arms where there is one question; None where none is defined.

    Args:
        point: the gate's operating point: its `threshold`, and where there is one the `temperature` it is meant for.
    """
    facts, best = table.facts, table.facts["best"]
    own = table.of(best["arm"], best["seed"], "test")
    if _one_question(facts) is None:
        return _each_class(facts, own)
    curves: list[tuple[str, np.ndarray, np.ndarray]] = []
    for arm in _compared(facts):
        seed = best["seed"] if arm == best["arm"] else facts["arms"][arm]["seeds"][0]
        found = table.of(arm, seed, "test")
        if len(found):
            curves.append((title_of(arm), *_side(facts, arm, seed, found)))
    positive, score = curves[0][1:]
    if positive.all() or not positive.any():
        return None
    marked = None
    if point is not None:
        referred = _referral(facts, own, score, point) >= point["threshold"]
        marked = (
            float(referred[~positive].mean()),
            float(referred[positive].mean()),
            float(positive[referred].mean()) if referred.any() else 1.0,
        )
    return Ranking(
        question=str(_one_question(facts)),
        roc=[_roc(*each) for each in curves],
        recall=[_precision(*each) for each in curves],
        share=float(positive.mean()),
        point=marked,
    )


def _referral(facts: Mapping[str, Any], own: Predicted, score: np.ndarray, point: Mapping[str, Any]) -> np.ndarray:
    """[N], on the scale of the threshold: of two classes too, where the operating point has a temperature."""
    if point.get("temperature") is None or facts["task"] == "ordinal":
        return score
    return GradeDecision(None, point["temperature"]).calibrated(own.prob)[:, _positive(facts)]


def _one_question(facts: Mapping[str, Any]) -> str | None:
    """The one question that a corpus of grades with a referable one, or of two classes, asks; None for others."""
    first = facts.get("grades", {}).get("referable")
    if first is not None:
        return f"{facts['classes'][first]} or worse (referable)"
    if facts["task"] != "multilabel" and len(facts["classes"]) == 2:
        return str(facts["classes"][_positive(facts)])
    return None


def _positive(facts: Mapping[str, Any]) -> int:
    return facts["classes"].index(_POSITIVE) if _POSITIVE in facts["classes"] else 1


def _compared(facts: Mapping[str, Any]) -> list[str]:
    """The student, then labels alone, teachers and baselines; the majority tells nothing apart."""
    best = facts["best"]["arm"]
    others = [arm for arm in facts["arms"] if arm not in (best, "majority")]
    return [best, *others][:_MOST]


def _side(facts: Mapping[str, Any], arm: str, seed: int, found: Predicted) -> tuple[np.ndarray, np.ndarray]:
    """(positive bool [N], score [N]) of the one question."""
    first = facts.get("grades", {}).get("referable")
    if first is not None:
        reading = next(r for r in facts["grades"]["readings"][arm] if r["seed"] == seed)
        calibrated = GradeDecision(None, reading["temperature"]).calibrated(found.prob)
        return found.label >= first, at_least(calibrated, first)
    place = _positive(facts)
    return found.label == place, found.prob[:, place]


def _each_class(facts: Mapping[str, Any], own: Predicted) -> Ranking | None:
    """A curve for each class against all others, of the student alone; the most frequent classes where there are many.

    Images of which a label is not known do not count for it.
    """
    sides = []
    for place, name in enumerate(facts["classes"]):
        known = np.ones(len(own), bool) if own.labels is None else own.labels[:, place] >= 0
        positive = (own.label == place if own.labels is None else own.labels[:, place] == 1)[known]
        if positive.any() and not positive.all():
            sides.append((name, positive, own.prob[known, place]))
    sides = sorted(sides, key=lambda side: -int(side[1].sum()))[:_MOST]
    if not sides:
        return None
    what = "each class against all others"
    if len(sides) < len(facts["classes"]):
        what += f", the {len(sides)} most frequent ones that can be judged"
    return Ranking(what, [_roc(*s) for s in sides], [_precision(*s) for s in sides], None, None)


def _counted(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hits and false alarms at each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    return np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]


def _roc(name: str, positive: np.ndarray, score: np.ndarray) -> Curve:
    hits, alarms = _counted(positive, score)
    area = float(weighted_auc(score, positive, np.ones((len(score), 1)))[0])
    x, y = np.append(0, alarms / max(1, alarms[-1])), np.append(0, hits / max(1, hits[-1]))
    return Curve(name, *_thinned(x, y), area)


def _precision(name: str, positive: np.ndarray, score: np.ndarray) -> Curve:
    hits, alarms = _counted(positive, score)
    recall, precision = hits / max(1, hits[-1]), hits / (hits + alarms)
    # Average precision: precision at each step of recall, without interpolation.
    area = float((np.diff(np.append(0, recall)) * precision).sum())
    return Curve(name, *_thinned(np.append(0, recall), np.append(precision[0], precision)), area)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= _POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
    return x[kept], y[kept]


@dataclass(frozen=True)
class Calibration:
    """How confidence and truth agree before and after a temperature that was fitted on validation images.

    Attributes:
        temperature: of the second curve; None where no validation image is labelled, and there is no such curve.
        curves: (confidence, share right) without empty bins.
        errors: expected calibration error of each.
    """

    temperature: float | None
    curves: list[Curve]
    errors: list[float]


def calibration(table: PredictionTable) -> Calibration:
    """Reliability of a report's best student."""
    facts, best = table.facts, table.facts["best"]
    val, test = (table.of(best["arm"], best["seed"], split) for split in ("val", "test"))
    found = [("as registered", test.prob)]
    temperature = None
    if len(val):
        temperature = fit_temperature(_logits(facts, val.prob), val.label if val.labels is None else val.labels)
        scaled = probabilities(facts["task"], _logits(facts, test.prob) / temperature)
        found.append((f"at temperature {temperature:.3g}", scaled))
    curves, errors = [], []
    for name, prob in found:
        count, confidence, right = reliability(facts["task"], prob, test.label, test.labels, bins=facts["bins"])
        full = count > 0
        curves.append(Curve(name, confidence[full], right[full]))
        errors.append(float((count[full] * np.abs(confidence[full] - right[full])).sum() / count.sum()))
    return Calibration(temperature, curves, errors)


def _logits(facts: Mapping[str, Any], prob: np.ndarray) -> np.ndarray:
    low = np.log(np.maximum(prob, FLOOR))
    return low if facts["task"] != "multilabel" else low - np.log(np.maximum(1 - prob, FLOOR))
