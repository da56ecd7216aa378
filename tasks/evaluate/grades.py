"""Metrics of graded corpora, in addition to those of every corpus.

qwk_cut_points   quadratic kappa of the grades that fitted cut points make of the expected grade
mae              mean absolute error of the argmax, in grades
referable_auc    area under the ROC curve of P(referable grade or worse), calibrated
referable_ece    expected calibration error of that probability, as of a single label

Cut points and temperature belong to one model and are fitted on its predictions for the labelled validation images;
the test images never see a fit. Each number is one of `models/statistics/metrics.py` on other labels or other
predictions, so that resamples, intervals and undefined cases are those of every other metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.bootstrap import Resampled, bootstrap
from models.statistics.metrics import assess
from models.statistics.ordinal import CutPoints, at_least, decide, expected_grade
from tasks.data.grade_decision import GradeDecision
from tasks.evaluate.results import Arm, Truth, mean_of, pair_of, rounded

_REFERABLE = ("referable_auc", "referable_ece")
_NOT_FITTED = "no validation image is labelled"
_ONE_CLASS = "labels and predictions are all one class"
_ONE_SIDE = "the test images all lie on one side of the referable grade"


@dataclass(frozen=True)
class _GradeMetric:
    """Metrics of `models/statistics/metrics.py` on what is made of predictions and labels.

    Attributes:
        metrics: our names to theirs.
        prob: from predictions and the decision of their model to what the metric takes.
        label: [N], or labels [N, L] for task multilabel.
        own: from the metric's value to the one that is reported.
    """

    task: str
    metrics: Mapping[str, str]
    prob: Callable[[np.ndarray, GradeDecision], np.ndarray]
    label: np.ndarray
    own: Callable[[Any], Any] = lambda value: value

    @property
    def labels(self) -> np.ndarray | None:
        return self.label if self.task == "multilabel" else None


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
    decisions = {arm.name: [GradeDecision.fit(prob, val.label) for prob in arm.val] for arm in arms}
    views = _grade_metrics(test.label, len(facts["classes"]), referable, fitted=len(val) > 0)
    rows = {name: _copied(row) for name, row in facts["arms"].items()}
    for view in views:
        probs = {a.name: [view.prob(p, r) for p, r in zip(a.test, decisions[a.name], strict=True)] for a in arms}
        drawn = _resampled(view, probs, test, resamples, bins)
        for arm, row in rows.items():
            found = [assess(view.task, prob, test.label, view.labels, bins=bins).values for prob in probs[arm]]
            for name, theirs in view.metrics.items():
                values = [None if (value := each[theirs]) is None else view.own(value) for each in found]
                _set_metric(row, name, values, _ONE_SIDE if name in _REFERABLE else _ONE_CLASS)
                if drawn is not None:
                    row["interval"][name] = pair_of(drawn.interval(arm, name))
    if not len(val):
        for row in rows.values():
            _set_metric(row, "qwk_cut_points", [None] * len(row["per_seed"]), _NOT_FITTED)
    plain = {a.name: [r.plain(s) for r, s in zip(decisions[a.name], a.seeds, strict=True)] for a in arms}
    known = next(iter(rows.values()))["values"]
    metrics = [name for name in ("qwk_cut_points", "mae", *_REFERABLE) if name in known]
    return {
        **facts,
        "metrics": [*facts["metrics"], *metrics],
        "arms": rows,
        "grades": {"referable": referable, "readings": plain},
    }


def _grade_metrics(label: np.ndarray, classes: int, referable: int | None, *, fitted: bool) -> list[_GradeMetric]:
    views = []
    if fitted:
        views.append(
            _GradeMetric(
                "ordinal",
                {"qwk_cut_points": "qwk"},
                lambda prob, decision: np.eye(classes)[
                    decide(expected_grade(prob), decision.cuts or CutPoints((), ()))
                ],
                label,
            )
        )
    if classes > 1:
        # A grade that is off by d is on the wrong side of d of the C - 1 thresholds.
        thresholds = np.arange(classes - 1)
        views.append(
            _GradeMetric(
                "multilabel",
                {"mae": "accuracy"},
                lambda prob, _: (prob.argmax(axis=1)[:, None] > thresholds).astype(float),
                (label[:, None] > thresholds).astype(int),
                lambda right: (classes - 1) * (1 - right),
            )
        )
    if referable is not None:
        views.append(
            _GradeMetric(
                "multilabel",
                dict(zip(_REFERABLE, ("auc", "ece"), strict=True)),
                lambda prob, decision: at_least(decision.calibrated(prob), referable)[:, None],
                (label >= referable).astype(int)[:, None],
            )
        )
    return views


def _resampled(
    view: _GradeMetric, probs: Mapping[str, Sequence[np.ndarray]], test: Truth, resamples: int, bins: int
) -> Resampled | None:
    if not resamples:
        return None
    metrics = view.metrics
    found = bootstrap(
        view.task,
        probs,
        test.label,
        view.labels,
        test.patient,
        resamples=resamples,
        metrics=metrics.values(),
        bins=bins,
    )
    return Resampled(
        {
            arm: {name: view.own(values[theirs]) for name, theirs in metrics.items()}
            for arm, values in found.values.items()
        }
    )


def _set_metric(row: dict[str, Any], name: str, values: Sequence[float | None], reason: str) -> None:
    row["values"][name] = mean_of(values)
    for own, value in zip(row["per_seed"], values, strict=True):
        own[name] = rounded(value)
    if None in values:
        row["undefined"][name] = reason


def _copied(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {kind: dict(row[kind]) for kind in ("values", "interval", "undefined")}
    return {**row, **inner, "per_seed": [dict(each) for each in row["per_seed"]]}
