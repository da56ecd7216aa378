"""What a report says first: is the student of use, how much of the gap is closed, is the teacher worth listening to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.drawing.markdown import interval_text, number
from tasks.evaluate.comparisons import NO_GAP
from tasks.evaluate.groups import worst_groups
from tasks.evaluate.teacher_verdicts import verdict_text
from tasks.evaluate.titles import METRIC_TITLES, title_of
from tasks.spec.arms import LABELS_ONLY


def headline(facts: Mapping[str, Any]) -> list[str]:
    """Plain sentences, the most important first; of the facts of an evaluation with all its metrics."""
    return [
        *_validation(facts),
        *_student(facts),
        *([facts["pool"]] if "pool" in facts else []),
        *_gap(facts),
        *_start(facts),
        *(worst_groups(facts) if "groups" in facts else []),
        *map(verdict_text, facts["teachers_on_validation"]),
    ]


def gap_text(facts: Mapping[str, Any], arm: str) -> str:
    """An arm's share of the gap closed, for a cell: a figure with its interval, or why there is none."""
    gap = facts["gap_closed"]
    if arm in gap["arms"]:
        own = gap["arms"][arm]
        return number(own["value"]) + interval_text(own["interval"])
    return NO_GAP if gap["reason"] == NO_GAP and arm in facts["differences"] else "-"


def _validation(facts: Mapping[str, Any]) -> list[str]:
    """A figure on validation that says nothing: seeds, weights and thresholds were chosen there."""
    best, chooser = facts["best"], facts["chosen_by"]
    if best is None or not facts["images"]["val"] or (best["val"] is not None and abs(best["val"]) > 1e-9):
        return []
    told = "undefined" if best["val"] is None else "zero"
    return [
        f"On validation the {METRIC_TITLES.get(chooser, chooser)} of {title_of(best['arm'])}, seed {best['seed']}, is "
        f"{told}: seeds and weights were chosen by it, so that the choice means nothing."
    ]


def _student(facts: Mapping[str, Any]) -> list[str]:
    found = facts["against_majority"]
    if found is None:
        return []
    name = METRIC_TITLES[facts["metric"]]
    who = f"{title_of(found['arm'])}, seed {found['seed']}"
    figures = f"{name} {number(found['value'])}{interval_text(found['interval'])}, majority {number(found['majority'])}"
    row = facts["arms"][found["arm"]]
    referable = row["values"].get("referable_auc")
    if referable is not None and facts["metric"] != "referable_auc":
        over = f", mean over {len(row['seeds'])} seeds," if len(row["seeds"]) > 1 else ""
        figures += f"; referable AUC{over} {number(referable)}{interval_text(row['interval'].get('referable_auc'))}"
    lines = []
    if found["better"] is False:
        lines.append(f"The student is no better than the majority: {found['reason']} ({who}: {figures}).")
    elif found["better"] is None:
        lines.append(f"Whether the student is better than the majority cannot be said: {found['reason']}.")
    else:
        lines.append(f"The student is better than the majority ({who}: {figures}).")
    lines += _baselines(facts)
    if found["one_answer"] is not None and found["better"] is not False:
        lines.append(
            f"Its likeliest class is {found['one_answer']} for every test image: use its cut points, not its argmax."
            if "grades" in facts
            else f"Its likeliest class is {found['one_answer']} for every test image."
        )
    return lines


def _baselines(facts: Mapping[str, Any]) -> list[str]:
    """Baselines that see no medicine and are as good as the student, or better."""
    lines = []
    for name, own in facts["against_baselines"].items():
        clear = own["interval"] is not None and own["interval"][0] > 0
        if own["value"] is None or clear or (own["interval"] is None and own["value"] > 0):
            continue
        values = [facts["arms"][arm]["values"][facts["metric"]] for arm in (facts["against_majority"]["arm"], name)]
        verdict = "not better" if own["value"] <= 0 else "not clearly better"
        lines.append(
            f"It is {verdict} than {title_of(name)}, which see no medicine ({METRIC_TITLES[facts['metric']]} "
            f"{number(values[0])}, {title_of(name)} {number(values[1])}; better by {own['value']:+.3f}"
            f"{interval_text(own['interval'])}): on these images its figures say little of medicine."
        )
    return lines


def _gap(facts: Mapping[str, Any]) -> list[str]:
    gap, values = facts["gap_closed"], {arm: row["values"][facts["metric"]] for arm, row in facts["arms"].items()}
    if gap["teacher"] is None or LABELS_ONLY not in values:
        return [f"Share of the gap closed: not known, {gap['reason']}."]
    ends = (
        f"{title_of(gap['teacher'])} {number(values[gap['teacher']])}, same student on labels alone "
        f"{number(values[LABELS_ONLY])} ({METRIC_TITLES[facts['metric']]})"
    )
    if gap["reason"] == NO_GAP:
        own = gap["gap"]
        difference = f"{own['value']:+.3f}{interval_text(own['interval'])}"
        return [f"No gap to close: {ends}; the difference {difference} is not clear of zero."]
    if gap["reason"] is not None:
        return [f"Share of the gap closed: not known, {gap['reason']}; {ends}."]
    most = max(len(row["seeds"]) for arm, row in facts["arms"].items() if arm in gap["arms"] or arm == LABELS_ONLY)
    crossed = f"patients crossed with {most} seeds" if most > 1 else "patients, of one seed"
    return [
        f"Share of the gap closed by {title_of(arm)}: {number(own['value'])}{interval_text(own['interval'])}, "
        f"95 % interval over {crossed}; {title_of(arm)} {number(values[arm])}, {ends}."
        for arm, own in gap["arms"].items()
    ]


def _start(facts: Mapping[str, Any]) -> list[str]:
    """How much of a taught student is its start, and how much the teaching."""
    start, teaching = facts.get("start"), facts.get("difference")
    if start is None or start["value"] is None:
        return []
    line = f"From the spec's start instead of a random one: {start['value']:+.3f}{interval_text(start['interval'])}"
    if teaching is None or teaching["value"] is None:
        return [f"{line}."]
    return [f"{line}; from teaching, at the same start: {teaching['value']:+.3f}{interval_text(teaching['interval'])}."]
