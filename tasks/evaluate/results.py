"""The numbers of an evaluation: every arm on the same test images, intervals, the best seed, figures a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.statistics.bootstrap import Resampled, bootstrap
from models.statistics.metrics import names, per_class, selecting_metric
from tasks.evaluate.arms import Arm, Judged, Truth, mean_of, pair_of, rounded
from tasks.evaluate.comparisons import compared
from tasks.spec.arms import TAUGHT

_SHOWN = ("accuracy", "macro_f1", "mcc", "auc", "ece")


def summarise(
    task: str,
    classes: Sequence[str],
    arms: Sequence[Arm],
    val: Truth,
    test: Truth,
    *,
    metric: str,
    resamples: int,
    bins: int,
    main: Judged | None = None,
) -> dict[str, Any]:
    """Every number of the report, JSON-safe: None where undefined, with the reason under `undefined`.

    `arms.<name>` holds `values` (mean over seeds), `interval`, `per_seed`, and where images leak
    `without_leaks`, the values on the others; `best` is the seed of the
    arm taught that is best on validation (other arms are compared, never registered): its `arm`, `seed`, `key`, and its
    figure there (`val`, of `chosen_by`). Beside these stand the values of `tasks.evaluate.comparisons.compared`.

    Args:
        metric: the main one.
        main: how it is computed where it is none of `models.statistics.metrics.names`.
    """
    wanted = names(task)
    if main is None:
        main = Judged(metric, task, metric, arms, val, test)
    shown = tuple(n for n in wanted if n in {metric, *_SHOWN})
    drawn = None
    if resamples:
        drawn = bootstrap(
            task,
            {arm.name: arm.test for arm in arms},
            test.label,
            test.labels,
            test.patient,
            resamples=resamples,
            metrics=shown,
            bins=bins,
        )
    own = main.resampled("test", resamples, bins)
    plain = Judged(metric, task, metric, arms, val, test)
    rows = {arm.name: _row(plain, arm, drawn, shown, bins) for arm in arms}
    if test.leak.any():
        for arm in arms:
            rows[arm.name]["without_leaks"] = plain.without_leaks(arm, bins)
    for arm in main.arms:
        row = rows[arm.name]
        if metric not in wanted:
            set_metric(row, metric, main, arm, own, bins)
    chooser = selecting_metric(metric)
    choosing = main if chooser == metric else Judged(chooser, task, chooser, arms, val, test)
    best = _best(choosing, bins)
    return {
        "task": task,
        "classes": list(classes),
        "metric": metric,
        "metrics": [*([] if metric in wanted else [metric]), *wanted],
        "chosen_by": chooser,
        "resamples": resamples,
        "bins": bins,
        "images": {"val": len(val), "test": len(test)},
        "patients": len(np.unique(test.patient.astype(str))),
        "leaks": int(test.leak.sum()),
        "absent": [name for c, name in enumerate(classes) if not _occurs(test, c)],
        "arms": rows,
        "best": best,
        "per_class": _per_class(task, classes, arms, test, best),
        **compared(rows, main, choosing, own, classes, best, task=task, plain=arms, bins=bins),
    }


def set_metric(row: dict[str, Any], name: str, judged: Judged, arm: Arm, drawn: Resampled | None, bins: int) -> None:
    """Add a metric to an arm's row, under a name of its own.

    Args:
        arm: of `judged`.
        drawn: the metric under resamples of the test images.
    """
    found = judged.on_test(arm, bins)
    row["values"][name] = mean_of([each.values[judged.metric] for each in found])
    if judged.test.leak.any():
        own = judged.without_leaks(arm, bins)[judged.metric]
        row["without_leaks"] = {**row.get("without_leaks", {}), name: own}
    for own, each in zip(row["per_seed"], found, strict=True):
        own[name] = rounded(each.values[judged.metric])
        if judged.metric in each.undefined:
            row["undefined"][name] = each.undefined[judged.metric]
    if drawn is not None:
        row["interval"][name] = pair_of(drawn.interval(arm.name, judged.metric))


def _row(plain: Judged, arm: Arm, drawn: Resampled | None, shown: Sequence[str], bins: int) -> dict[str, Any]:
    found = plain.on_test(arm, bins)
    undefined: dict[str, str] = {}
    for each in found:
        undefined.update(each.undefined)
    intervals = {name: drawn.interval(arm.name, name) for name in shown} if drawn is not None else {}
    return {
        "seeds": list(arm.seeds),
        "parameters": arm.parameters,
        "values": {name: mean_of([each.values[name] for each in found]) for name in names(plain.task)},
        "interval": {name: pair_of(found) for name, found in intervals.items()},
        "per_seed": [{name: rounded(value) for name, value in each.values.items()} for each in found],
        "undefined": undefined,
    }


def _best(choosing: Judged, bins: int) -> dict[str, Any] | None:
    found = [
        (-choosing.better(value) if value is not None else math.inf, place, seed, key, arm.name, value)
        for place, arm in enumerate(choosing.arms)
        if arm.name == TAUGHT
        for seed, key, value in zip(arm.seeds, arm.keys, choosing.on_val(arm, bins), strict=True)
    ]
    if not found:
        return None
    *_, seed, key, arm_name, value = min(found, key=lambda each: each[:3])
    return {"arm": arm_name, "seed": seed, "key": key, "val": rounded(value)}


def _per_class(
    task: str, classes: Sequence[str], arms: Sequence[Arm], test: Truth, best: dict[str, Any] | None
) -> list[dict[str, Any]]:
    prob = shown_arm(arms, best)[1]
    rows = per_class(task, prob, test.label, test.labels)
    return [
        {"class": name, "n": int(row["n"] or 0), **{k: rounded(v) for k, v in row.items() if k != "n"}}
        for name, row in zip(classes, rows, strict=True)
    ]


def shown_arm(arms: Sequence[Arm], best: dict[str, Any] | None) -> tuple[str, np.ndarray]:
    """Name and test probabilities of the model that plots and per-class table show: the best student."""
    if best is not None:
        arm = next(a for a in arms if a.name == best["arm"])
        return f"{arm.name} student, seed {best['seed']}", arm.test[arm.seeds.index(best["seed"])]
    return arms[0].name, arms[0].test[0]


def _occurs(test: Truth, c: int) -> bool:
    return bool((test.label == c).any() if test.labels is None else (test.labels[:, c] == 1).any())
