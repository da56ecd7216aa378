"""Every exported format against PyTorch on the same test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.bootstrap import bootstrap
from models.statistics.metrics import FIT_FREE, LOWER_IS_BETTER, assess, names, probabilities
from models.statistics.ordinal import CutPoints, at_least, decide, expected_grade
from tasks.data.decisions import decision_of
from tasks.data.grade_decision import GradeDecision
from tasks.export.images import ComparedImages

LARGEST = 1e-3
"""Largest difference of a probability that a float32 format may have: other orders of the same sums."""

INT8_LARGEST, INT8_AGREEMENT, INT8_LOSS = 0.2, 0.97, 0.02
"""Bounds of int8: largest difference of a probability, least share of equal classes, most of the metric that the 95 %
interval may lose."""


@dataclass(frozen=True)
class Parity:
    """How far a format is from PyTorch.

    Attributes:
        quantised: whether it is int8.
        runtime: that ran it.
        images: that were compared.
        largest: difference of a probability.
        agreement: share of images whose likeliest class is the same; multilabel: of decisions at 0.5.
        metric: that the report judges by, or the one that stands for it.
        metric_difference: what it gains over PyTorch; negative: what it loses. None: undefined on these images.
        interval: 95 % of that, patients resampled; None where it was not asked for or is undefined.
    """

    quantised: bool
    runtime: str
    images: int
    largest: float
    agreement: float
    metric: str
    metric_difference: float | None
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, six digits."""
        return {
            "runtime": self.runtime,
            "images": self.images,
            "largest": round(self.largest, 8),
            "agreement": round(self.agreement, 6),
            "metric": self.metric,
            "metric_difference": None if self.metric_difference is None else round(self.metric_difference, 6),
            "interval": None if self.interval is None else [round(end, 6) for end in self.interval],
            "beyond": self.beyond,
        }

    @property
    def beyond(self) -> str:
        """What is beyond the bounds of the format, in words; "" where nothing is."""
        return self._int8_beyond() if self.quantised else self._float32_beyond()

    def _float32_beyond(self) -> str:
        if not self.largest <= LARGEST:
            return f"a probability differs by {self.largest:.4f} from PyTorch (at most {LARGEST:g} is allowed)"
        return ""

    def _int8_beyond(self) -> str:
        if not self.largest <= INT8_LARGEST:
            return f"a probability differs by {self.largest:.3f} (at most {INT8_LARGEST:g} is allowed)"
        if self.agreement < INT8_AGREEMENT:
            return f"{self.agreement:.1%} of the classes are the same (at least {INT8_AGREEMENT:.0%} is asked for)"
        if self.interval is None:
            return f"there is no interval of what it costs in {self.metric}"
        if self.interval[0] < -INT8_LOSS:
            return (
                f"{self.metric} may lose {-self.interval[0]:.3f}, the lower end of the 95 % interval on {self.images} "
                f"images (at most {INT8_LOSS:g} is allowed)"
            )
        return ""


def compare(
    exact: np.ndarray,
    found: np.ndarray,
    test: ComparedImages,
    report: Mapping[str, Any],
    *,
    runtime: str,
    quantised: bool = False,
) -> Parity:
    """Compare logits.

    Args:
        exact, found: [N, C] of PyTorch and of the format.
        report: facts of the report, which name the task, the metric, its resamples and the student.
        runtime: that gave `found`.
        quantised: whether the format is int8, which has wider bounds.
    """
    task = report["task"]
    ours, theirs = (probabilities(task, logits) for logits in (found, exact))
    many = task == "multilabel"
    same = ((ours >= 0.5) == (theirs >= 0.5)) if many else ours.argmax(axis=1) == theirs.argmax(axis=1)
    difference, interval = _metric_difference(theirs, ours, test, report)
    largest = float(np.abs(ours - theirs).max())
    return Parity(quantised, runtime, len(exact), largest, float(same.mean()), _metric(report), difference, interval)


def _metric(report: Mapping[str, Any]) -> str:
    """The report's main metric, where it can be computed of images alone."""
    task, metric = report["task"], report["metric"]
    if metric in names(task):
        return str(metric)
    reading = decision_of(report, report["best"]["arm"], report["best"]["seed"])
    if metric == "qwk_cut_points" and reading.get("cut_points") is not None:
        return "qwk_cut_points"
    if metric == "referable_auc" and reading.get("referable") is not None:
        return "referable_auc"
    return FIT_FREE[task]


def _metric_difference(
    exact: np.ndarray, found: np.ndarray, test: ComparedImages, report: Mapping[str, Any]
) -> tuple[float | None, tuple[float, float] | None]:
    """What the format gains in the metric, and its interval."""
    metric, task = _metric(report), report["task"]
    label, labels = test.label, test.labels
    if metric in ("qwk_cut_points", "referable_auc"):
        reading = decision_of(report, report["best"]["arm"], report["best"]["seed"])
        exact, found = (_decided(metric, prob, reading) for prob in (exact, found))
        if metric == "referable_auc":
            task, labels = "multilabel", (label >= reading["referable"]).astype(int)[:, None]
        metric = {"qwk_cut_points": "qwk", "referable_auc": "auc"}[metric]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    values = [assess(task, prob, label, labels).values[metric] for prob in (found, exact)]
    gained = None if values[0] is None or values[1] is None else sign * (values[0] - values[1])
    if not report["resamples"]:
        return gained, None
    drawn = bootstrap(
        task,
        {"found": [found], "exact": [exact]},
        label,
        labels,
        test.patient,
        resamples=report["resamples"],
        metrics=[metric],
    )
    span = drawn.difference("found", "exact", metric)
    if span is None:
        return gained, None
    low, high = sorted((sign * span.low, sign * span.high))
    return gained, (low, high)


def _decided(metric: str, prob: np.ndarray, reading: Mapping[str, Any]) -> np.ndarray:
    """Probabilities as what the metrics of grades are computed from (see `tasks/evaluate/grades.py`)."""
    if metric == "qwk_cut_points":
        cuts = CutPoints(tuple(reading["cut_points"]), ())
        return np.asarray(np.eye(prob.shape[1])[decide(expected_grade(prob), cuts)])
    calibrated = GradeDecision(None, reading["temperature"]).calibrated(prob)
    return at_least(calibrated, reading["referable"])[:, None]
