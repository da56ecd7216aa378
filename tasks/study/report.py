"""A study's report: what the paper claims, what was run, what came out, what differs, then the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.drawing.markdown import PHANTOM
from tasks.study.design import Study
from tasks.study.figures import StudyFigures
from tasks.study.tables import difference_text, folds_markdown, over_fitting_markdown, table_markdown

SHOWN = {
    "single": ("micro_f1", "mcc", "auc"),
    "ordinal": ("qwk", "macro_f1", "auc"),
    "multilabel": ("macro_f1", "micro_f1", "nll"),
}
"""Metrics beside the main one, by task."""


def study_report(
    study: Study,
    figures: StudyFigures,
    *,
    corpus: str,
    task: str,
    phantom: bool,
    seeds: Sequence[int],
    rates: Mapping[str, Sequence[Mapping[str, float]]],
    fit: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    machine: str = "this machine",
) -> str:
    """The report in Markdown.

    Args:
        phantom: the images are drawn by code.
        rates: factor of the learning rates that each arm of each condition was trained with, in each fold.
        fit: KL and R^2 of the students to their teachers on validation, by condition and arm; where they are known.
        notes: of this run, such as the student's size.
        machine: that latencies were measured on.
    """
    shown = tuple(name for name in SHOWN[task] if name != figures.metric)
    metric = figures.metric
    main = figures.primary
    holds = "no interval could be had" if main.interval is None else _verdict(main.interval)
    if phantom:
        holds = f"nothing but that the plumbing works; on these drawn images {holds}"
    parts = [
        f"# Study {study.kind} on {corpus}",
        *([PHANTOM] if phantom else []),
        f"**Primary contrast, named before the runs**: {difference_text(study, main, metric)}. It shows {holds}.",
        f"**The paper claims** ({study.paper}): {study.claim}",
        f"**What was run**: {_count(len(study.conditions), 'condition')}, seeds {', '.join(map(str, seeds))}, "
        f"{figures.images:,} test images of {figures.patients:,} patients{_folds_text(figures)}. All arms of a "
        "condition share views, steps and teachers; the learning rate of each was chosen on validation with the first "
        "seed. Intervals are 95 %, "
        f"patients and seeds resampled together {figures.resamples:,} times; p values of all contrasts but the primary "
        "one are corrected together (Holm).",
        "**What came out**\n\n" + "\n".join(f"- {difference_text(study, each, metric)}" for each in figures.contrasts),
        "**What differs from the paper, and what these data cannot show**\n\n"
        + "\n".join(f"- {note}" for note in [*study.notes, *notes]),
        "## Table",
        table_markdown(study, figures, shown),
        "Bytes are those of the network as float32 ONNX; milliseconds are the median of one image on one thread in "
        f"ONNX Runtime, normalisation included, all networks in turns on {machine}. KL (nats) and R^2 compare a "
        "student with the mean of its teachers on the test images, plain view.",
        *_folds(study, figures, shown),
        *_over_fitting(study, figures),
        "## Learning rates and fit",
        _rates_text(study, rates, fit),
    ]
    return "\n\n".join(parts) + "\n"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _folds_text(figures: StudyFigures) -> str:
    if figures.folds < 2:
        return ""
    text = f", in {figures.folds} folds: each is judged by models that were trained without it"
    if figures.primary.visible is None or figures.visible_own is None:
        return text
    return (
        f"{text}. The primary contrast would see a true difference of {figures.primary.visible:.3f} in 80 % of such "
        f"studies; without folds, on the {figures.own_images:,} test images of the corpus's own splits, one of "
        f"{figures.visible_own:.3f}"
    )


def _folds(study: Study, figures: StudyFigures, shown: tuple[str, ...]) -> list[str]:
    table = folds_markdown(study, figures, shown)
    return ["## Each fold", table] if table else []


def _over_fitting(study: Study, figures: StudyFigures) -> list[str]:
    table = over_fitting_markdown(study, figures)
    text = (
        "Training images are at most 512 with labels, the same for all arms of a condition, in their plain view. The "
        "gap is how much better a student is on them than on the test images; its interval is Student's t over seeds. "
        "Curves of the validation images while training are beside this report."
    )
    return ["## Over-fitting", table, text] if table else []


def _verdict(interval: Sequence[float]) -> str:
    if interval[0] > 0:
        return "an advantage: its interval lies above zero"
    if interval[1] < 0:
        return "a disadvantage: its interval lies below zero"
    return "no difference that is clear of zero"


def _rates_text(
    study: Study, rates: Mapping[str, Sequence[Mapping[str, float]]], fit: Mapping[str, Mapping[str, Any]]
) -> str:
    lines = [
        "| condition | arm | factor of the learning rate | KL to the teachers, validation | R^2 |",
        "|---|---|---:|---:|---:|",
    ]
    for condition in study.conditions:
        for arm in condition.arms:
            own = fit.get(condition.name, {}).get(arm, {})
            kl, r2 = (own.get(name) for name in ("val_teacher_kl", "val_teacher_r2"))
            told = ["-" if value is None else f"{value:.3f}" for value in (kl, r2)]
            factor = ", ".join(f"{own.get(arm, 1.0):g}" for own in rates.get(condition.name, [{}]))
            lines.append(f"| {condition.title} | {study.titles.get(arm, arm)} | {factor} | {' | '.join(told)} |")
    return "\n".join(lines)
