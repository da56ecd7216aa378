"""What the arms say of each other: gains over labels alone, the share of the gap closed, the baselines.

The share of the gap closed is (student - labels alone) / (teacher - labels alone) of the main metric on the same test
images. Its interval is over patients crossed with seeds: each resample draws patients, and seeds of every arm that has
several. It stands only where the gap itself is clear of zero, because the share of no gap is any number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.statistics.bootstrap import Resampled, percentile_interval, share_of_gap, t_interval
from tasks.evaluate.arms import BASELINES, Arm, Judged, mean_of, pair_of, rounded
from tasks.spec.arms import LABELS_ONLY, RANDOM_START, TAUGHT

NO_GAP = "no gap to close"
_BY_CHANCE = {"qwk": 0.0, "qwk_cut_points": 0.0, "mcc": 0.0, "auc": 0.5, "grade_auc": 0.5, "referable_auc": 0.5}
"""Figures of a constant where they do not depend on the labels."""


def compared(
    rows: Mapping[str, Any],
    main: Judged,
    choosing: Judged,
    drawn: Resampled | None,
    classes: Sequence[str],
    best: Mapping[str, Any] | None,
    *,
    task: str,
    plain: Sequence[Arm],
    bins: int,
) -> dict[str, Any]:
    """Comparisons on the main metric, JSON-safe.

    `differences` holds each student's arm minus labels_only, `difference` that of the registered arm (None where
    labels_only was not trained), `start` taught minus random_start (None where one was not trained). `gap_closed`: see
    `_gap_closed`; `against_majority`: see `_against_majority`; `against_baselines`: the registered arm minus each other
    baseline.

    Args:
        rows: of the arms, with the main metric in `values` and `per_seed`.
        main, choosing: the main metric, and the one that chooses on validation.
        drawn: the main metric under resamples of the test images.
        best: the student to register.
        task: of the corpus.
        plain: arms with the models' own probabilities.
    """
    differences = {
        arm.name: _difference(rows, drawn, main, arm.name, LABELS_ONLY)
        for arm in main.arms
        if arm.is_student and arm.name != LABELS_ONLY and LABELS_ONLY in rows
    }
    own = best["arm"] if best is not None else TAUGHT
    start = _difference(rows, drawn, main, TAUGHT, RANDOM_START) if {TAUGHT, RANDOM_START} <= rows.keys() else None
    return {
        "difference": differences.get(own),
        "start": start,
        "differences": differences,
        "gap_closed": _gap_closed(rows, main, choosing, drawn, bins),
        "against_majority": _against_majority(rows, main, drawn, classes, best, task, plain),
        "against_baselines": {
            name: _better_by(rows, drawn, main, own, name) for name in BASELINES[1:] if {own, name} <= rows.keys()
        },
    }


def _better_by(rows: Mapping[str, Any], drawn: Resampled | None, main: Judged, arm: str, other: str) -> dict[str, Any]:
    """`value` and paired `interval` of how much better an arm is, its seeds averaged; larger is better."""
    sign = main.better(1.0)
    first, second = (rows[each]["values"][main.name] for each in (arm, other))
    own = pair_of(drawn.difference(arm, other, main.metric)) if drawn is not None else None
    ends = [sign * end for end in own or [] if end is not None]
    return {
        "value": None if None in (first, second) else rounded(sign * (first - second)),
        "interval": sorted(ends) if len(ends) == 2 else None,
    }


def _difference(rows: Mapping[str, Any], drawn: Resampled | None, main: Judged, arm: str, other: str) -> dict[str, Any]:
    metric = main.name
    values = [dict(zip(rows[a]["seeds"], rows[a]["per_seed"], strict=True)) for a in (arm, other)]
    paired = [(values[0][seed][metric], values[1][seed][metric]) for seed in sorted(values[0]) if seed in values[1]]
    each = [a - b for a, b in paired if a is not None and b is not None]
    means = [rows[a]["values"][metric] for a in (arm, other)]
    return {
        "value": rounded(means[0] - means[1]) if None not in means else None,
        "interval": pair_of(drawn.difference(arm, other, main.metric)) if drawn is not None else None,
        "seeds": len(each),
        "per_seed": [rounded(value) for value in each],
        "t_interval": [rounded(v) for v in t] if (t := t_interval(each)) is not None else None,
    }


def _gap_closed(
    rows: Mapping[str, Any], main: Judged, choosing: Judged, drawn: Resampled | None, bins: int
) -> dict[str, Any]:
    """`teacher` (the best on validation), `gap` (teacher minus labels alone, larger is better), `reason` (why there is
    no share, or None), and `arms`: `value` and `interval` of each student's share.
    """
    none: dict[str, Any] = {"teacher": None, "gap": None, "arms": {}}
    alone = main.arm(LABELS_ONLY)
    teacher = _best_teacher(choosing, bins)
    if teacher is None:
        return {**none, "reason": "no teacher was trained here, so none was judged on the test images"}
    if alone is None:
        return {**none, "teacher": teacher, "reason": "no student was trained on the labels alone"}
    values = {name: row["values"][main.name] for name, row in rows.items()}
    found: dict[str, Any] = {**none, "teacher": teacher}
    if values[teacher] is None or values[LABELS_ONLY] is None:
        return {**found, "reason": f"{main.name} is undefined for one of the two ends"}
    low, high = main.better(values[LABELS_ONLY]), main.better(values[teacher])
    if drawn is None:
        return {
            **found,
            "gap": {"value": rounded(high - low), "interval": None},
            "reason": "no intervals were asked for",
        }
    numbers = {arm.name: arm.seeds for arm in main.arms if arm.is_student or arm.name == teacher}
    crossed = {name: main.better(1.0) * each for name, each in drawn.crossed(main.metric, numbers).items()}
    gap = percentile_interval(crossed[teacher] - crossed[LABELS_ONLY])
    found["gap"] = {"value": rounded(high - low), "interval": pair_of(gap)}
    if gap is None or gap.low <= 0:
        return {**found, "reason": NO_GAP}
    shares = {}
    for name in numbers:
        if name in (teacher, LABELS_ONLY):
            continue
        value = values[name]
        shares[name] = {
            "value": None if value is None else rounded((main.better(value) - low) / (high - low)),
            "interval": pair_of(share_of_gap(crossed[name], crossed[LABELS_ONLY], crossed[teacher])),
        }
    return {**found, "arms": shares, "reason": None}


def _best_teacher(choosing: Judged, bins: int) -> str | None:
    """The teacher that is best on validation, the first where validation cannot say."""
    scores = {
        arm.name: -np.inf if (value := mean_of(choosing.on_val(arm, bins))) is None else choosing.better(value)
        for arm in choosing.arms
        if arm.is_teacher
    }
    return max(scores, key=lambda name: scores[name]) if scores else None


def _against_majority(
    rows: Mapping[str, Any],
    main: Judged,
    drawn: Resampled | None,
    classes: Sequence[str],
    best: Mapping[str, Any] | None,
    task: str,
    plain: Sequence[Arm],
) -> dict[str, Any] | None:
    """The student to register beside the majority on the main metric; None without a student.

    `value`, `interval`, `majority`, `better` (None: cannot be said), `reason` (why it is not, or None), and
    `one_answer`: the class that its argmax gives every test image, or None.
    """
    if best is None:
        return None
    arm = next(each for each in plain if each.name == best["arm"])
    place = arm.seeds.index(best["seed"])
    value = rows[arm.name]["per_seed"][place][main.name]
    interval = pair_of(drawn.seed_interval(arm.name, main.metric, place)) if drawn is not None else None
    majority = rows["majority"]["values"][main.name] if "majority" in rows else None
    if majority is None:
        majority = _BY_CHANCE.get(main.name)
    said = np.unique(arm.test[place].argmax(axis=1))
    one_answer = classes[int(said[0])] if task != "multilabel" and len(said) == 1 and len(classes) > 1 else None
    better, reason = _judge(main, value, interval, majority, one_answer)
    return {
        "arm": arm.name,
        "seed": best["seed"],
        "value": value,
        "interval": interval,
        "majority": majority,
        "better": better,
        "reason": reason,
        "one_answer": one_answer,
    }


def _judge(
    main: Judged,
    value: float | None,
    interval: Sequence[float | None] | None,
    majority: float | None,
    answer: str | None,
) -> tuple[bool | None, str | None]:
    if value is None:
        return False, f"{main.name} is undefined"
    if answer is not None and main.name in ("macro_f1", "accuracy", "balanced_accuracy", "micro_f1", "mcc", "qwk"):
        return False, f"it gives every test image the class {answer}"
    if majority is None:
        return None, "the majority was not judged (evaluate.baselines)"
    if interval is not None and None not in interval:
        worst = min(main.better(end) for end in interval if end is not None)
        if worst <= main.better(majority):
            return False, "the interval reaches the majority's figure"
        return True, None
    if main.better(value) <= main.better(majority):
        return False, "the majority's figure is not below it"
    return True, None
