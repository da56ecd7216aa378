"""The report in Markdown: for a person who runs a clinic's models and did not train this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.statistics.metrics import LOWER_IS_BETTER
from tasks.data.patients import leakage_text
from tasks.drawing.markdown import PHANTOM, cell_text, number, table_text
from tasks.evaluate.by_corpus import corpora_text
from tasks.evaluate.groups import groups_text
from tasks.evaluate.headline import gap_text
from tasks.evaluate.imageability import imageability_text
from tasks.evaluate.screening_text import screening_text
from tasks.evaluate.titles import METRIC_TITLES, title_of
from tasks.spec.arms import LABELS_ONLY

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
        _first(numbers),
        *([PHANTOM] if context.phantom else []),
        _what(numbers, context),
        _table_of_arms(numbers),
        _notes(numbers),
        *(["## Without leaks\n\n" + _without_leaks(numbers)] if numbers["leaks"] else []),
        "## Does teaching help?\n\n" + _differences(numbers),
        *(["## Grades\n\n" + grades_text(numbers)] if "grades" in numbers else []),
        *(["## Screening\n\n" + screening_text(numbers)] if "screening" in numbers else []),
        *(["## Imageability\n\n" + imageability_text(numbers)] if "imageability" in numbers else []),
        *(["## Decisions\n\n" + _shifts(numbers)] if "decisions" in numbers else []),
        *(["## Corpora\n\n" + corpora_text(numbers)] if "corpora" in numbers else []),
        *(["## Groups\n\n" + groups_text(numbers)] if "groups" in numbers else []),
        *(["## Baselines\n\n" + _BASELINES.rstrip()] if "majority" in numbers["arms"] else []),
        "## Corpus\n\n" + _corpus(numbers, context),
        "## Per class\n\n" + _classes(numbers, context),
        f"## Plots\n\n![confusion matrix]({context.plots['confusion']})\n\n"
        f"![reliability diagram]({context.plots['reliability']})",
    ]
    return "\n\n".join(parts) + "\n"


def _first(numbers: Mapping[str, Any]) -> str:
    """The headline: its first sentence alone and bold, the others as a list."""
    first, *rest = numbers["headline"]
    return "\n".join([f"**{first}**", *(["", *(f"- {line}" for line in rest)] if rest else [])])


def columns(numbers: Mapping[str, Any]) -> list[str]:
    """Metrics of the comparison, main one first."""
    main = numbers["metric"]
    rest = [m for m in ("accuracy", "macro_f1", "mcc", "auc", "ece") if m != main and m in numbers["metrics"]]
    return [main, *rest]


def _what(numbers: Mapping[str, Any], context: ReportContext) -> str:
    images, best = numbers["images"], numbers["best"]
    text = (
        f"The student is `{context.students}`. Every row below was scored on the same {images['test']} labelled test "
        f"images of {numbers['patients']} patients{_unknown(numbers)}. Main metric: {METRIC_TITLES[numbers['metric']]}"
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
            place = f"best on validation ({METRIC_TITLES[numbers['chosen_by']]} {number(best['val'])})"
        text += f"\n\nThe student to register is **{title_of(best['arm'])}, seed {best['seed']}**: {place}."
    return text


def _unknown(numbers: Mapping[str, Any]) -> str:
    return ", as an image whose patient is not known counts as one" if numbers["without_patient"]["unknown"] else ""


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
            cells.append(number(row["without_leaks"][shown[0]]))
        cells.append(gap_text(numbers, arm))
        cells.append(f"{row['parameters']:,}" if row["parameters"] else "-")
        rows.append(cells)
    return table_text([*head, "gap closed", "parameters"], rows)


def _without_leaks(numbers: Mapping[str, Any]) -> str:
    """Every metric again, on the test images that do not leak."""
    shown = [metric for metric in numbers["metrics"] if any(_left(row, metric) for row in numbers["arms"].values())]
    rows = [
        [title_of(arm), *(number(row["without_leaks"].get(metric)) for metric in shown)]
        for arm, row in numbers["arms"].items()
    ]
    kept = numbers["images"]["test"] - numbers["leaks"]
    head = f"On the {kept} test images of which none is in training, nor one like it, nor its patient."
    return f"{head}\n\n" + table_text(["model", *(METRIC_TITLES[metric] for metric in shown)], rows)


def _left(row: Mapping[str, Any], metric: str) -> bool:
    return row["without_leaks"].get(metric) is not None


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


def _differences(numbers: Mapping[str, Any]) -> str:
    if not numbers["differences"]:
        return "The same student was not trained on the labels alone, so this run cannot say."
    parts = [_difference(numbers, arm) for arm in numbers["differences"]]
    if numbers["gap_closed"]["arms"]:
        parts.append(
            "The share of the gap closed is (student - labels alone) / (teacher - labels alone) on the same test "
            "images. Its interval draws patients, and seeds of every arm that has several; of an arm of one seed it "
            "does not say what another training would bring."
        )
    return "\n\n".join(parts)


def _difference(numbers: Mapping[str, Any], arm: str) -> str:
    found = numbers["differences"][arm]
    what = f"{title_of(arm)[:1].upper()}{title_of(arm)[1:]}, minus {title_of(LABELS_ONLY)}"
    if found["value"] is None:
        return f"{what}: {METRIC_TITLES[numbers['metric']]} is undefined for one of the two."
    seeds = f", 95 % t interval over {found['seeds']} seeds"
    text = (
        f"{what}, {METRIC_TITLES[numbers['metric']]}: **{found['value']:+.3f}**"
        + _span(found["interval"], ", 95 % interval over patients")
        + _span(found["t_interval"], seeds)
        + "."
    )
    sign = -1 if numbers["metric"] in LOWER_IS_BETTER else 1
    spans = [s for s in (found["interval"], found["t_interval"]) if s is not None]
    if spans and all(min(sign * s[0], sign * s[1]) > 0 for s in spans):
        return text + " That helps: no interval reaches zero."
    if spans and all(max(sign * s[0], sign * s[1]) < 0 for s in spans):
        return text + " That hurts: no interval reaches zero."
    return text + " That is not enough to say that they differ."


def _corpus(numbers: Mapping[str, Any], context: ReportContext) -> str:
    rows = [
        [split, f"{c['images']:,}", f"{c['labelled']:,}", f"{c['patients']:,}"] for split, c in context.counts.items()
    ]
    lines = [table_text(["split", "images", "labelled", "patients"], rows), ""]
    unchecked = leakage_text(numbers["without_patient"])
    lines.append(
        f"- Test images that leak from training: {numbers['leaks']} seen" + (f"; {unchecked}." if unchecked else ".")
    )
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


def _shifts(numbers: Mapping[str, Any]) -> str:
    own = numbers["decisions"]
    plain, moved = own["metric"], own["shifted"]
    strengths = {arm: ", ".join(f"{r['strength']:+.1f}" for r in each) for arm, each in own["readings"].items()}
    rows = [
        [title_of(arm), _cell(row, plain), _cell(row, moved), strengths[arm]] for arm, row in numbers["arms"].items()
    ]
    chosen = (
        f"chosen for {METRIC_TITLES[plain]} on {numbers['images']['val']} validation images: of the strengths that "
        "they cannot tell from the best one, the nearest to 0"
        if numbers["images"]["val"]
        else "0, as no validation image is labelled to choose it on"
    )
    return (
        table_text(["model", METRIC_TITLES[plain], METRIC_TITLES[moved], "strength, a seed each"], rows)
        + "\n\n- The class is the one of the largest logit; shifted, the log of the share that each class has among "
        f"the labelled training images is first taken away, times a strength that is {chosen}. Above 0 rare classes "
        "are said more often. The registered model has its shift as `logit_shift`."
    )


def grades_text(numbers: Mapping[str, Any]) -> str:
    """Section "Grades" in Markdown, of facts that `tasks.evaluate.grades.add_grades` completed."""
    shown = [metric for metric in _GRADE_METRICS if metric in numbers["metrics"]]
    rows = [[title_of(arm), *(_cell(row, metric) for metric in shown)] for arm, row in numbers["arms"].items()]
    parts = [
        table_text(["model", *(METRIC_TITLES[metric] for metric in shown)], rows),
        "\n".join(f"- {line}" for line in _grade_notes(numbers, shown)),
    ]
    if numbers["images"]["val"]:
        parts.append(_grade_decisions(numbers))
    return "\n\n".join(parts)


def _cell(row: Mapping[str, Any], metric: str) -> str:
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
            how += f", none of which shows {names}, so that this grade is hardly ever decided"
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
