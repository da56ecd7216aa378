"""Metrics of graded corpora, in addition to those of every corpus.

qwk_cut_points   quadratic kappa of the grades that fitted cut points make of the expected grade
mae              mean absolute error of the argmax, in grades
referable_auc    area under the ROC curve of P(referable grade or worse), calibrated
referable_ece    expected calibration error of that probability, as of a single label

The first of them is the main metric of grades by default, and referable_auc may be (`evaluate.metric`). Cut points and
temperature belong to one model and are fitted on its predictions for the labelled validation images; the test images
never see a fit. Each number is one of `models/statistics/metrics.py` on other labels or other predictions, so that
resamples, intervals and undefined cases are those of every other metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.statistics.ordinal import CutPoints, at_least, decide, expected_grade
from tasks.data.grade_decision import GradeDecision
from tasks.evaluate.arms import Arm, Judged, Truth, mean_of, rounded
from tasks.evaluate.results import set_metric

_REFERABLE = {"referable_auc": "auc", "referable_ece": "ece"}
_NOT_FITTED = "no validation image is labelled"
_ONE_CLASS = "labels and predictions are all one class"
_ONE_SIDE = "the test images all lie on one side of the referable grade"


@dataclass(frozen=True)
class _GradeMetric:
    """A metric of `models/statistics/metrics.py` on what is made of predictions and labels.

    Attributes:
        task, metric: as `models/statistics/metrics.py` takes them.
        prob: from predictions and the decision of their model to what the metric takes.
        labels: from labels [N] to labels [N, L] for task multilabel; None: they stay.
        own: from the metric's value to the one that is reported.
        undefined: why it is undefined.
    """

    task: str
    metric: str
    prob: Callable[[np.ndarray, GradeDecision], np.ndarray]
    labels: Callable[[np.ndarray], np.ndarray] | None = None
    own: Callable[[float], float] | None = None
    undefined: str = _ONE_SIDE


def judged_by(metric: str, arms: Sequence[Arm], val: Truth, test: Truth, classes: int, referable: int | None) -> Judged:
    """A metric of grades that may be the main one, on the arms' decisions.

    Args:
        metric: qwk_cut_points or referable_auc.
        referable: the first grade that is referred.

    Raises:
        KeyError: there is no such metric, or no referable grade.
    """
    return decided_by(metric, arms, _decisions(arms, val), val, test, classes, referable)


def decided_by(
    metric: str,
    arms: Sequence[Arm],
    decisions: Mapping[str, Sequence[GradeDecision]],
    val: Truth,
    test: Truth,
    classes: int,
    referable: int | None,
) -> Judged:
    """`judged_by` with decisions that are known, one a seed of each arm by name."""
    return _judged(metric, _grade_metrics(classes, referable)[metric], arms, decisions, val, test)


def add_grades(
    facts: Mapping[str, Any],
    arms: Sequence[Arm],
    val: Truth,
    test: Truth,
    *,
    referable: int | None,
    resamples: int,
    bins: int,
) -> dict[str, Any]:
    """The facts of `summarise` with the metrics above in every arm's row.

    `grades` holds `referable` (the first referred grade, or None) and `readings`: by arm, a list with `seed`,
    `cut_points`, `missing` and `temperature`.

    Args:
        referable: the first grade that is referred; None leaves those metrics out.
        resamples, bins: as of `summarise`.
    """
    decisions = _decisions(arms, val)
    rows = {name: _copied(row) for name, row in facts["arms"].items()}
    made = _grade_metrics(len(facts["classes"]), referable)
    for name, metric in made.items():
        if name == "qwk_cut_points" and not len(val):
            for row in rows.values():
                _leave_undefined(row, name, _NOT_FITTED)
            continue
        judged = _judged(name, metric, arms, decisions, val, test)
        drawn = judged.resampled("test", resamples, bins)
        for arm in judged.arms:
            row = rows[arm.name]
            set_metric(row, name, judged, arm, drawn, bins)
            _in_own_terms(row, name, metric)
    return {
        **facts,
        "metrics": [*facts["metrics"], *(name for name in made if name not in facts["metrics"])],
        "arms": rows,
        "grades": {
            "referable": referable,
            "readings": {a.name: [r.plain(s) for r, s in zip(decisions[a.name], a.seeds, strict=True)] for a in arms},
        },
    }


def _decisions(arms: Sequence[Arm], val: Truth) -> dict[str, list[GradeDecision]]:
    return {arm.name: [GradeDecision.fit(prob, val.label) for prob in arm.val] for arm in arms}


def _judged(
    name: str,
    metric: _GradeMetric,
    arms: Sequence[Arm],
    decisions: Mapping[str, Sequence[GradeDecision]],
    val: Truth,
    test: Truth,
) -> Judged:
    def made(arm: Arm) -> Arm:
        own = decisions[arm.name]
        return replace(
            arm,
            val=tuple(metric.prob(p, d) for p, d in zip(arm.val, own, strict=True)),
            test=tuple(metric.prob(p, d) for p, d in zip(arm.test, own, strict=True)),
        )

    def truth(given: Truth) -> Truth:
        return given if metric.labels is None else replace(given, labels=metric.labels(given.label))

    return Judged(name, metric.task, metric.metric, [made(arm) for arm in arms], truth(val), truth(test))


def _grade_metrics(classes: int, referable: int | None) -> dict[str, _GradeMetric]:
    even = CutPoints(tuple(k + 0.5 for k in range(classes - 1)), ())
    found = {
        "qwk_cut_points": _GradeMetric(
            "ordinal",
            "qwk",
            lambda prob, decision: np.eye(classes)[decide(expected_grade(prob), decision.cuts or even)],
            undefined=_ONE_CLASS,
        )
    }
    if classes > 1:
        # A grade that is off by d is on the wrong side of d of the C - 1 thresholds.
        thresholds = np.arange(classes - 1)
        found["mae"] = _GradeMetric(
            "multilabel",
            "accuracy",
            lambda prob, _: (prob.argmax(axis=1)[:, None] > thresholds).astype(float),
            lambda label: (label[:, None] > thresholds).astype(int),
            lambda right: (classes - 1) * (1 - right),
        )
    if referable is not None:
        first = referable
        for name, theirs in _REFERABLE.items():
            found[name] = _GradeMetric(
                "multilabel",
                theirs,
                lambda prob, decision: at_least(decision.calibrated(prob), first)[:, None],
                lambda label: (label >= first).astype(int)[:, None],
            )
    return found


def _in_own_terms(row: dict[str, Any], name: str, metric: _GradeMetric) -> None:
    """From the value of the metric that was computed to the one that is reported."""
    if name in row["undefined"]:
        row["undefined"][name] = metric.undefined
    if metric.own is None:
        return
    left = row.get("without_leaks", {}).get(name)
    if left is not None:
        row["without_leaks"] = {**row["without_leaks"], name: rounded(metric.own(left))}
    for own in row["per_seed"]:
        own[name] = None if own[name] is None else rounded(metric.own(own[name]))
    row["values"][name] = mean_of([own[name] for own in row["per_seed"]])
    span = row["interval"].get(name)
    if span is not None:
        row["interval"][name] = sorted(round(metric.own(end), 6) for end in span)


def _leave_undefined(row: dict[str, Any], name: str, reason: str) -> None:
    row["values"][name] = None
    row["undefined"][name] = reason
    for own in row["per_seed"]:
        own[name] = None


def _copied(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {kind: dict(row[kind]) for kind in ("values", "interval", "undefined")}
    return {**row, **inner, "per_seed": [dict(each) for each in row["per_seed"]]}
