"""Decisions of unordered classes by shifted logits, beside those of the plain argmax.

<metric>_shifted is the metric that `evaluate.decide_for` names, of the argmax after each model's own shift of its
logits. The shift is the log prior of the labelled training images times a strength that is chosen on the labelled
validation images (`models/statistics/logit_shift.py`); the test images never see a fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.statistics.logit_shift import log_prior
from tasks.data.class_decision import ClassDecision
from tasks.evaluate.arms import Arm, Judged, Truth
from tasks.evaluate.results import set_metric


def add_shifts(
    facts: Mapping[str, Any],
    arms: Sequence[Arm],
    val: Truth,
    test: Truth,
    *,
    metric: str,
    counts: np.ndarray,
    resamples: int,
    bins: int,
) -> dict[str, Any]:
    """The facts of `summarise` with the shifted metric in every arm's row.

    `decisions` holds `metric`, `shifted` (the name of its row), `counts`, and `readings`: by arm, a list with `seed`,
    `strength` and `logit_shift`.

    Args:
        metric: what the shift is chosen for; one of `models.statistics.logit_shift.DECISIONS`.
        counts: [C] labelled training images of each class.
        resamples, bins: as of `summarise`.
    """
    prior, name = log_prior(counts), f"{metric}_shifted"
    fitted = {
        arm.name: [ClassDecision.fit(prob, val.label, prior, metric, val.patient) for prob in arm.val] for arm in arms
    }
    moved = [
        replace(
            arm,
            val=tuple(d.shifted(p) for p, d in zip(arm.val, fitted[arm.name], strict=True)),
            test=tuple(d.shifted(p) for p, d in zip(arm.test, fitted[arm.name], strict=True)),
        )
        for arm in arms
    ]
    judged = Judged(name, "single", metric, moved, val, test)
    plain = Judged(metric, "single", metric, arms, val, test)
    rows = {arm: {**row, "interval": dict(row["interval"])} for arm, row in facts["arms"].items()}
    drawn, drawn_plain = (each.resampled("test", resamples, bins) for each in (judged, plain))
    for arm, same in zip(moved, arms, strict=True):
        set_metric(rows[arm.name], name, judged, arm, drawn, bins)
        set_metric(rows[arm.name], metric, plain, same, drawn_plain, bins)
    return {
        **facts,
        "metrics": [*facts["metrics"], name],
        "arms": rows,
        "decisions": {
            "metric": metric,
            "shifted": name,
            "counts": [int(count) for count in counts],
            "readings": {
                arm.name: [d.plain(seed) for d, seed in zip(fitted[arm.name], arm.seeds, strict=True)] for arm in arms
            },
        },
    }
