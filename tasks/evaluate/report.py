"""The report in Markdown: for a person who runs a clinic's models and did not train this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.drawing.markdown import cell_text, number, table_text
from tasks.evaluate.grades_text import grades_text
from tasks.evaluate.words import METRIC_TITLES, title_of

_BASELINES = """\
What can be had without medicine:

- **majority** says the same for every image: how often each class occurs among the labelled training images.
- **thumbnails 16 x 16** is a linear model on images too small to show a lesion: overall colour and brightness.
- **image borders** is a linear model on the outer 6 % of the image alone: camera, mask, text, no anatomy.

A student that is not clearly above all three has learnt how the images were taken rather than what they show.
"""
PHANTOM = (
    "**These images are phantoms, drawn by code. The figures prove that the plumbing works; they say nothing "
    "about medicine.**"
)


@dataclass(frozen=True)
class Context:
    """What the report says beside the numbers; everything here is in the stage's key."""

    corpus: str
    phantom: bool
    counts: Mapping[str, Mapping[str, int]]  # split to images, labelled, patients
    kept_out: int  # quarantined images
    without_image: int  # label rows without a file
    plots: Mapping[str, str]  # confusion, reliability: file names beside the report
    students: str  # model name of the student
    shown: str  # what plots and the per-class table show


def markdown(numbers: Mapping[str, Any], context: Context) -> str:
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


def _what(numbers: Mapping[str, Any], context: Context) -> str:
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
        cells = [title_of(arm) + seeds]
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


def _corpus(numbers: Mapping[str, Any], context: Context) -> str:
    rows = [
        [split, f"{c['images']:,}", f"{c['labelled']:,}", f"{c['patients']:,}"] for split, c in context.counts.items()
    ]
    lines = [table_text(["split", "images", "labelled", "patients"], rows), ""]
    lines.append(f"- Test images that leak from training: {numbers['leaks']}.")
    lines.append(f"- Images kept out as unreadable or unusable (quarantine): {context.kept_out}.")
    if context.without_image:
        lines.append(f"- Label rows without an image: {context.without_image:,}.")
    return "\n".join(lines)


def _classes(numbers: Mapping[str, Any], context: Context) -> str:
    rows = [
        [cell_text(r["class"]), str(r["n"]), *(number(r[k]) for k in ("recall", "precision", "f1", "auc"))]
        for r in numbers["per_class"]
    ]
    head = ["class", "test images", "recall", "precision", "F1", "AUC"]
    return f"Of the {context.shown}.\n\n" + table_text(head, rows)


def _span(span: Sequence[float | None] | None, words: str) -> str:
    return f"{words} [{span[0]:+.3f}, {span[1]:+.3f}]" if span else ""
