"""Teachers beside the student on labels alone, on validation: figures, paired intervals, and what follows from them.

A teacher that is no better than what it is to teach cannot teach. Each is judged as it teaches: the members of an
ensemble averaged, over the views that its `average` asks for; where there are several, their mean is judged too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.statistics.bootstrap import Interval, percentile_interval
from models.statistics.metrics import selecting_metric
from tasks.data.corpus import Corpus
from tasks.drawing.markdown import interval_text, number
from tasks.evaluate.arms import ENSEMBLE, Arm, Judged, Truth, mean_of, pair_of, rounded
from tasks.evaluate.grades import judged_by
from tasks.evaluate.predicted_arms import mean_of_arms
from tasks.evaluate.scope import DECIDED, WholeTeacher, first_referred, main_metric, whole_teachers
from tasks.evaluate.titles import METRIC_TITLES, title_of
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY

BETTER = "better"
"""The lower end of the difference's interval is above zero."""
NO_BETTER = "worse or equal"
"""Its upper end is at or below zero."""
UNCLEAR = "not told apart"
"""Zero lies in the interval, or there is none."""

_SAID = {
    BETTER: "is better than",
    NO_BETTER: "is no better than",
    UNCLEAR: "cannot be told apart from",
    None: "cannot be compared with",
}

Judge = Callable[[Sequence[Arm]], Judged]
"""From arms with probabilities to the metric that they are judged by."""


def teachers_on_validation(corpus: Corpus, spec: Spec, arms: Sequence[Arm], val: Truth) -> list[dict[str, Any]]:
    """`verdicts` of a spec's teachers, by the metric that chooses on validation.

    Args:
        arms: of `tasks.evaluate.predicted_arms.arms_of`; only their validation predictions are read.
        val: the labelled validation images.
    """
    metric = judging_metric(corpus, spec)

    def judge(chosen: Sequence[Arm]) -> Judged:
        nothing = Truth.of([])
        if metric in DECIDED:
            return judged_by(metric, chosen, val, nothing, len(corpus.classes), first_referred(corpus, spec))
        return Judged(metric, corpus.task, metric, chosen, val, nothing)

    section = spec.evaluate
    return verdicts(judge, arms, whole_teachers(spec), resamples=section.bootstrap, bins=section.bins)


def judging_metric(corpus: Corpus, spec: Spec) -> str:
    """The metric that judges teachers on validation: it needs no cut points fitted on the images that it judges."""
    return selecting_metric(main_metric(corpus, spec))


def verdicts(
    judge: Judge, arms: Sequence[Arm], wholes: Sequence[WholeTeacher] = (), *, resamples: int, bins: int
) -> list[dict[str, Any]]:
    """Each teacher beside the mean over seeds of the student on labels alone; JSON-safe, empty without either.

    A row has `teacher` (its arm), `members`, `views`, `metric`, `value`, `labels_only`, `seeds` (of the student),
    `difference` (larger is better), its 95 % `interval` over patients crossed with the student's seeds, `verdict`
    (`BETTER`, `NO_BETTER`, `UNCLEAR`; None where a figure is undefined), `images` and `patients`.

    Args:
        wholes: of ensembles whose members are among the arms; any other teacher's arm is a whole by itself.
    """
    alone = next((arm for arm in arms if arm.name == LABELS_ONLY), None)
    teachers = _whole_arms(arms, wholes)
    if alone is None or not teachers:
        return []
    width = alone.val[0].shape[1]
    shown = [_on_validation(arm, width) for arm in (alone, *(arm for arm, _, _ in teachers))]
    judged = judge(shown)
    student, *own = judged.arms
    low = mean_of(judged.on_val(student, bins))
    drawn = judged.resampled("val", resamples, bins)
    crossed = None if drawn is None else drawn.crossed(judged.metric, {arm.name: arm.seeds for arm in judged.arms})
    found = []
    for arm, (_, members, views) in zip(own, teachers, strict=True):
        high = mean_of(judged.on_val(arm, bins))
        known = low is not None and high is not None
        difference = judged.better(high) - judged.better(low) if low is not None and high is not None else None
        interval = None
        if crossed is not None and known:
            interval = percentile_interval(judged.better(1.0) * (crossed[arm.name] - crossed[LABELS_ONLY]))
        found.append(
            {
                "teacher": arm.name,
                "members": members,
                "views": views,
                "metric": judged.name,
                "value": high,
                "labels_only": low,
                "seeds": len(student.seeds),
                "difference": rounded(difference),
                "interval": pair_of(interval),
                "verdict": _verdict(interval) if known else None,
                "images": len(judged.val),
                "patients": len(np.unique(judged.val.patient.astype(str))),
            }
        )
    return found


def verdict_text(row: Mapping[str, Any]) -> str:
    """A row of `verdicts` for people, in one sentence."""
    ensemble = row["teacher"] == ENSEMBLE
    made = [f"mean of {row['members']} members"] if row["members"] > 1 and not ensemble else []
    made += [f"{row['views']} views"] if row["views"] > 1 else []
    who = title_of(row["teacher"]) + (f" ({', '.join(made)})" if made else "")
    text = f"On validation {who} {_SAID[row['verdict']]} the student's own labels-alone arm"
    metric = METRIC_TITLES[row["metric"]]
    if not row["images"]:
        return f"{text}: no validation image is labelled."
    judged = f"{row['images']} images of {row['patients']} patients"
    if row["verdict"] is None:
        return f"{text}: {metric} {number(row['value'])} against {number(row['labels_only'])}; {judged}."
    seeds = f" (mean of {row['seeds']} seeds)" if row["seeds"] > 1 else ""
    interval = interval_text(row["interval"]) or " without an interval"
    return (
        f"{text}: {metric} {number(row['value'])} against {number(row['labels_only'])}{seeds}, "
        f"difference {row['difference']:+.3f}{interval}; {judged}."
    )


def _verdict(interval: Interval | None) -> str:
    if interval is None or interval.low <= 0 < interval.high:
        return UNCLEAR
    return BETTER if interval.low > 0 else NO_BETTER


def _whole_arms(arms: Sequence[Arm], wholes: Sequence[WholeTeacher]) -> list[tuple[Arm, int, int]]:
    """Arms of the teachers as they teach, with their numbers of members and of views; their mean comes last."""
    whole_of = {member: whole for whole in wholes for member in whole.members}
    members: dict[str, list[Arm]] = {}
    views: dict[str, int] = {}
    for arm in arms:
        if not arm.is_teacher or arm.name == ENSEMBLE:
            continue
        whole = whole_of.get(arm.name)
        name = arm.name if whole is None else whole.arm
        members.setdefault(name, []).append(arm)
        views[name] = 1 if whole is None else whole.views
    found = [
        (replace(own[0], name=name) if len(own) == 1 else mean_of_arms(name, own), len(own), views[name])
        for name, own in members.items()
    ]
    if len(found) > 1:
        every = [arm for own in members.values() for arm in own]
        found.append((mean_of_arms(ENSEMBLE, every), len(every), 1))
    return found


def _on_validation(arm: Arm, classes: int) -> Arm:
    """An arm without its predictions of test images: these decide nothing here."""
    return replace(arm, test=tuple(np.zeros((0, classes)) for _ in arm.test))
