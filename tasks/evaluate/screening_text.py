"""Referral, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.data.decision_units import IMAGE
from tasks.drawing.markdown import interval_text, number, table_text
from tasks.evaluate.titles import title_of

_RULES = {"maximum": "the largest probability of any of its images", "mean": "the mean probability of its images"}


def screening_text(numbers: Mapping[str, Any]) -> str:
    """Section "Screening" in Markdown, of facts that have `screening`."""
    found = numbers["screening"]
    unit = found["unit"]
    parts = [_how(found), _table(found, unit)]
    if unit != IMAGE:
        parts.append(_table(found, IMAGE))
    return "\n\n".join(parts)


def _how(found: Mapping[str, Any]) -> str:
    unit, own = found["unit"], found["counts"][found["unit"]]
    said = "" if unit == IMAGE else f"{_an(unit)} counts by {_RULES[found['aggregate']]}, and is as ill as the worst. "
    lines = [
        f"Referred is {found['title']}. The decision is made for the {unit}. {said}A model refers from a threshold on, "
        "on its calibrated probability; each seed has its own, that of the largest sensitivity + specificity on "
        f"{own['val']:,} {_plural(unit, own['val'])} of the validation images. The registered model has the same, as "
        "`operating_point`."
    ]
    if own["alone"]:
        lines.append(f"Of {own['alone']:,} test images the {unit} is not known; each stands for itself.")
    if found["referred"]:
        lines.append(
            f"{found['referred']:,} labelled test images that cannot be graded count as referred, whatever a model "
            "says; every other metric of this report is of its answers alone."
        )
    if all(each["threshold"] is None for row in found["arms"].values() for each in row["seeds"]):
        lines.append(
            "No threshold could be chosen: the labelled validation images do not show both sides; see corpus.split.val."
        )
    return " ".join(lines)


def _table(found: Mapping[str, Any], level: str) -> str:
    own = found["counts"][level]
    of = {
        "sensitivity": own["referable"],
        "specificity": own["test"] - own["referable"],
        "missed_severe": own["severe"],
    }
    titles = {"missed_severe": f"missed of grade {found['severe']} or worse"}
    shown = [name for name in of if name != "missed_severe" or found["severe"] is not None]
    head = [f"by {level}", *(f"{titles.get(name, name)} (of {of[name]:,})" for name in shown), "threshold, a seed each"]
    rows = []
    for arm, row in found["arms"].items():
        figures = row if level == found["unit"] else row[IMAGE]
        cells = [number(figures[name]["value"]) + interval_text(figures[name]["interval"]) for name in shown]
        cuts = ", ".join("none" if each["threshold"] is None else f"{each['threshold']:.3f}" for each in row["seeds"])
        rows.append([title_of(arm), *cells, cuts])
    return table_text(head, rows)


def _an(unit: str) -> str:
    return f"An {unit}" if unit[0] in "aeiou" else f"A {unit}"


def _plural(unit: str, count: int) -> str:
    return unit if count == 1 else f"{unit}s"
