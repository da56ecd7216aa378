"""The part of the report that only graded corpora have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.drawing.markdown import cell_text, number, table_text
from tasks.evaluate.words import METRIC_TITLES, title_of

_SHOWN = ("qwk", "qwk_cut_points", "mae", "referable_auc", "referable_ece")


def grades_text(numbers: Mapping[str, Any]) -> str:
    """Section "Grades" in Markdown, of facts that `tasks.evaluate.grades.add_grades` completed."""
    shown = [metric for metric in _SHOWN if metric in numbers["metrics"]]
    rows = [[title_of(arm), *(_cell(row, metric) for metric in shown)] for arm, row in numbers["arms"].items()]
    parts = [
        table_text(["model", *(METRIC_TITLES[metric] for metric in shown)], rows),
        "\n".join(f"- {line}" for line in _notes(numbers, shown)),
    ]
    if numbers["images"]["val"]:
        parts.append(_readings(numbers))
    return "\n\n".join(parts)


def _cell(row: Mapping[str, Any], metric: str) -> str:
    span = row["interval"].get(metric)
    return number(row["values"][metric]) + (f" [{number(span[0])}, {number(span[1])}]" if span else "")


def _notes(numbers: Mapping[str, Any], shown: list[str]) -> list[str]:
    images, grades, classes = numbers["images"]["val"], numbers["grades"], numbers["classes"]
    readings = [each for own in grades["readings"].values() for each in own]
    lines = ["Mean absolute error counts the grades that the likeliest class is off: smaller is better."]
    missing = readings[0]["missing"]
    if images:
        how = f"those with the largest quadratic kappa on {images} validation images"
        if missing:
            names = ", ".join(cell_text(classes[grade]) for grade in missing)
            how = f"evenly spaced and not fitted, because no validation image shows {names}"
        lines.append(
            "Cut points turn the expected grade, the mean of the grades under a model's probabilities, into a grade: "
            f"{how}."
        )
    else:
        lines.append("There are no cut points, and temperatures are 1: no validation image is labelled to fit them on.")
    if grades["referable"] is None:
        lines.append("No grade is named as the first that is referred (`evaluate.referable`).")
    else:
        name = cell_text(classes[grades["referable"]])
        lines.append(
            f"Referable is grade {grades['referable']} ({name}) or worse. Its probability is calibrated by the "
            "temperature below; its ECE is the gap between that probability and the share of referable images."
            if images
            else f"Referable is grade {grades['referable']} ({name}) or worse; its probability is not calibrated."
        )
    reasons = {
        f"{METRIC_TITLES[metric]} of {title_of(arm)} is undefined: {row['undefined'][metric]}."
        for arm, row in numbers["arms"].items()
        for metric in shown
        if metric in row["undefined"] and (images or metric != "qwk_cut_points")
    }
    return lines + sorted(reasons)


def _readings(numbers: Mapping[str, Any]) -> str:
    rows = [
        [
            title_of(arm),
            str(each["seed"]),
            ", ".join(f"{cut:.3f}" for cut in each["cut_points"]),
            f"{each['temperature']:.4g}",
        ]
        for arm, own in numbers["grades"]["readings"].items()
        for each in own
    ]
    return table_text(["model", "seed", "cut points", "temperature"], rows)
