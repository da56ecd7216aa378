"""The report in Markdown: for a person who runs a clinic's models and did not train this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.drawing.markdown import PHANTOM, cell_text, number, table_text
from tasks.spec.arms import LABELS_ONLY, TAUGHT

TITLES = {
    TAUGHT: "student, taught",
    LABELS_ONLY: "same student, labels alone",
    "majority": "majority",
    "thumbnails": "thumbnails 16 x 16",
    "borders": "image borders",
}


METRIC_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mcc": "MCC",
    "qwk": "quadratic kappa",
    "auc": "AUC",
    "ece": "ECE",
    "nll": "log loss",
    "qwk_cut_points": "quadratic kappa, cut points",
    "mae": "mean absolute error",
    "referable_auc": "referable AUC",
    "referable_ece": "referable ECE",
}
_GRADE_METRICS = ("qwk", "qwk_cut_points", "mae", "referable_auc", "referable_ece")

_BASELINES = """\
What can be had without medicine:

- **majority** gives every image the same probabilities: how often each class occurs among the labelled training images.
- **thumbnails 16 x 16** is a linear model on images too small to show a lesion: overall colour and brightness.
- **image borders** is a linear model on the outer 6 % of the image alone: camera, mask, text, no anatomy.

A student that is not clearly above all three has learnt how the images were taken rather than what they show.
"""


@dataclass(frozen=True)
class ReportContext:
    """What the report shows beside the numbers."""

    corpus: str
    phantom: bool
    counts: Mapping[str, Mapping[str, int]]  # split to images, labelled, patients
    kept_out: int  # quarantined images
    without_image: int  # label rows without a file
    unpredicted: int  # images that kill the process that predicts them
    plots: Mapping[str, str]  # confusion, reliability: file names beside the report
    students: str  # model name of the student
    shown: str  # what plots and the per-class table show


def markdown(numbers: Mapping[str, Any], context: ReportContext) -> str:
    """The whole report."""
    parts = [
        f"# {context.corpus}: evaluation",
        *([PHANTOM] if context.phantom else []),
        _what(numbers, context),
        _table_of_arms(numbers),
        _notes(numbers),
        "## Does teaching help?\n\n" + _difference(numbers),
        *(["## Grades\n\n" + grades_text(numbers)] if "grades" in numbers else []),
        *(["## Baselines\n\n" + _BASELINES.rstrip()] if "majority" in numbers["arms"] else []),
        "## Corpus\n\n" + _corpus(numbers, context),
        "## Per class\n\n" + _classes(numbers, context),
        f"## Plots\n\n![confusion matrix]({context.plots['confusion']})\n\n"
        f"![reliability diagram]({context.plots['reliability']})",
    ]
    return "\n\n".join(parts) + "\n"


def columns(numbers: Mapping[str, Any]) -> list[str]:
    """Metrics of the comparison, main one first."""
    main = numbers["metric"]
    rest = [m for m in ("accuracy", "macro_f1", "mcc", "auc", "ece") if m != main and m in numbers["metrics"]]
    return [main, *rest]


def _what(numbers: Mapping[str, Any], context: ReportContext) -> str:
    images, best = numbers["images"], numbers["best"]
    text = (
        f"The student is `{context.students}`. Every row below was scored on the same {images['test']} labelled test "
        f"images of {numbers['patients']} patients. Main metric: {METRIC_TITLES[numbers['metric']]}"
    )
    if numbers["resamples"]:
        text += (
            f"; in brackets the 95 % interval from {numbers['resamples']} resamples of patients. Rows with several "
            "seeds show the mean over the seeds."
        )
    else:
        text += "; no intervals were asked for."
    if best is not None:
        place = "the first seed, as no validation image is labelled"
        if best["val"] is not None:
            place = f"best on validation ({METRIC_TITLES[numbers['metric']]} {number(best['val'])})"
        text += f"\n\nThe student to register is **seed {best['seed']}**: {place}."
    return text


def _table_of_arms(numbers: Mapping[str, Any]) -> str:
    shown = columns(numbers)
    leaks = numbers["leaks"] > 0
    head = ["model", *(METRIC_TITLES[m] for m in shown)]
    if leaks:
        head.append(f"{METRIC_TITLES[shown[0]]} without leaks")
    rows = []
    for arm, row in numbers["arms"].items():
        seeds = f" ({len(row['seeds'])} seeds)" if len(row["seeds"]) > 1 else ""
        views = f", mean of {row['views']} views" if "views" in row else ""
        cells = [title_of(arm) + seeds + views]
        for metric in shown:
            cell = number(row["values"][metric])
            span = row["interval"].get(metric) if metric == shown[0] else None
            cells.append(f"{cell} [{number(span[0])}, {number(span[1])}]" if span else cell)
        if leaks:
            cells.append(number(row["without_leaks"]))
        cells.append(f"{row['parameters']:,}" if row["parameters"] else "-")
        rows.append(cells)
    return table_text([*head, "parameters"], rows)


def _notes(numbers: Mapping[str, Any]) -> str:
    lines = []
    for arm, row in numbers["arms"].items():
        for metric, reason in sorted(row["undefined"].items()):
            if metric in columns(numbers):
                lines.append(f"- {METRIC_TITLES[metric]} of {title_of(arm)} is undefined: {reason}.")
    if numbers["absent"]:
        lines.append(f"- Not in the test images, so unjudged: {', '.join(map(cell_text, numbers['absent']))}.")
    if "ece" in columns(numbers):
        lines.append("- ECE is the gap between confidence and truth: smaller is better, 0 is perfect.")
    if numbers["leaks"]:
        lines.append(
            f"- {numbers['leaks']} test images show a patient, or are a file, that is also in training; the last "
            "metric column leaves them out."
        )
    return "\n".join(lines)


def _difference(numbers: Mapping[str, Any]) -> str:
    found = numbers["difference"]
    if found is None:
        return "The same student was not trained on the labels alone, so this run cannot say."
    if found["value"] is None:
        return f"{METRIC_TITLES[numbers['metric']]} is undefined for one of the two."
    seeds = f", 95 % t interval over {found['seeds']} seeds"
    text = (
        f"Taught minus labels alone, {METRIC_TITLES[numbers['metric']]}: **{found['value']:+.3f}**"
        + _span(found["interval"], ", 95 % interval over patients")
        + _span(found["t_interval"], seeds)
        + "."
    )
    sign = -1 if numbers["metric"] in ("ece", "nll") else 1
    spans = [s for s in (found["interval"], found["t_interval"]) if s is not None]
    if spans and all(min(sign * s[0], sign * s[1]) > 0 for s in spans):
        return text + " Teaching helps: no interval reaches zero."
    if spans and all(max(sign * s[0], sign * s[1]) < 0 for s in spans):
        return text + " Teaching hurts: no interval reaches zero."
    return text + " That is not enough to say that they differ."


def _corpus(numbers: Mapping[str, Any], context: ReportContext) -> str:
    rows = [
        [split, f"{c['images']:,}", f"{c['labelled']:,}", f"{c['patients']:,}"] for split, c in context.counts.items()
    ]
    lines = [table_text(["split", "images", "labelled", "patients"], rows), ""]
    lines.append(f"- Test images that leak from training: {numbers['leaks']}.")
    lines.append(f"- Images kept out as unreadable or unusable (quarantine): {context.kept_out}.")
    if context.unpredicted:
        lines.append(
            f"- Images that no figure counts because they kill the process that reads or predicts them: "
            f"{context.unpredicted}. The manifest's quarantine names them."
        )
    if context.without_image:
        lines.append(f"- Label rows without an image: {context.without_image:,}.")
    return "\n".join(lines)


def _classes(numbers: Mapping[str, Any], context: ReportContext) -> str:
    rows = [
        [cell_text(r["class"]), str(r["n"]), *(number(r[k]) for k in ("recall", "precision", "f1", "auc"))]
        for r in numbers["per_class"]
    ]
    head = ["class", "test images", "recall", "precision", "F1", "AUC"]
    return f"Of the {context.shown}.\n\n" + table_text(head, rows)


def _span(span: Sequence[float | None] | None, words: str) -> str:
    return f"{words} [{span[0]:+.3f}, {span[1]:+.3f}]" if span else ""


def title_of(arm: str) -> str:
    """What people read for an arm."""
    kind, _, name = arm.partition(":")
    return f"teacher {name}" if kind == "teacher" else TITLES.get(arm, arm)


def grades_text(numbers: Mapping[str, Any]) -> str:
    """Section "Grades" in Markdown, of facts that `tasks.evaluate.grades.add_grades` completed."""
    shown = [metric for metric in _GRADE_METRICS if metric in numbers["metrics"]]
    rows = [[title_of(arm), *(_grade_cell(row, metric) for metric in shown)] for arm, row in numbers["arms"].items()]
    parts = [
        table_text(["model", *(METRIC_TITLES[metric] for metric in shown)], rows),
        "\n".join(f"- {line}" for line in _grade_notes(numbers, shown)),
    ]
    if numbers["images"]["val"]:
        parts.append(_grade_decisions(numbers))
    return "\n\n".join(parts)


def _grade_cell(row: Mapping[str, Any], metric: str) -> str:
    span = row["interval"].get(metric)
    return number(row["values"][metric]) + (f" [{number(span[0])}, {number(span[1])}]" if span else "")


def _grade_notes(numbers: Mapping[str, Any], shown: list[str]) -> list[str]:
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


def _grade_decisions(numbers: Mapping[str, Any]) -> str:
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
