"""A study's table as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from tasks.drawing.markdown import cell_text, interval_text, number, table_text
from tasks.evaluate.arms import BASELINES
from tasks.study.design import Study
from tasks.study.figures import Difference, Row, StudyFigures
from tasks.study.measures import Measures

HEAD = ("condition", "arm", "seeds", "parameters")
COSTS = ("kB", "ms an image", "KL to teachers", "R^2")
_TEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$"}


def table_markdown(study: Study, figures: StudyFigures, shown: tuple[str, ...]) -> str:
    """One row an arm and condition: figures, and the difference to its baseline.

    Args:
        shown: metrics beside the main one.
    """
    head = [*HEAD, f"{figures.metric} [95 %]", "against its baseline", "p, corrected", *shown, *COSTS]
    rows = [
        [
            cell_text(_title_of(study, row.condition)),
            cell_text(study.titles.get(row.arm, row.arm)),
            str(row.seeds),
            "-" if row.parameters is None else f"{row.parameters:,}",
            f"{number(row.values[figures.metric])}{interval_text(row.interval)}",
            _against(study, found) if (found := _of(figures, row)) else "-",
            _p(found) if found else "-",
            *(number(row.values[name]) for name in shown),
            *_costs(row.measures),
        ]
        for row in figures.rows
    ]
    return table_text(head, rows)


def over_fitting_markdown(study: Study, figures: StudyFigures) -> str:
    """The main metric on training and on test images, and what lies between; "" where no arm has it."""
    head = ["condition", "arm", f"{figures.metric}, training images", "test images", "gap [95 %, over seeds]"]
    rows = [
        [
            cell_text(_title_of(study, row.condition)),
            cell_text(study.titles.get(row.arm, row.arm)),
            number(row.measures.train),
            number(row.values[figures.metric]),
            f"{row.measures.gap:+.3f}{interval_text(row.measures.gap_interval)}",
        ]
        for row in figures.rows
        if row.measures.gap is not None
    ]
    return table_text(head, rows) if rows else ""


def folds_markdown(study: Study, figures: StudyFigures, shown: tuple[str, ...]) -> str:
    """Metrics of each fold by itself and their mean, as papers with official folds give them; "" without folds.

    Arms that need no medicine stand in the other table alone.
    """
    if figures.folds < 2:
        return ""
    head = ["condition", "arm", "metric", *(f"fold {number}" for number in range(figures.folds)), "mean of the folds"]
    rows = []
    for row in (row for row in figures.rows if row.arm not in BASELINES):
        for metric in (figures.metric, *shown):
            each = [fold[metric] for fold in row.per_fold]
            known = [value for value in each if value is not None]
            mean = sum(known) / len(known) if len(known) == len(each) else None
            title = cell_text(study.titles.get(row.arm, row.arm))
            names = [cell_text(_title_of(study, row.condition)), title, metric]
            rows.append([*names, *map(number, each), number(mean)])
    return table_text(head, rows)


def _costs(of: Measures) -> list[str]:
    """Cells of `COSTS`."""
    return [
        "-" if of.bytes is None else f"{of.bytes / 1000:,.0f}",
        "-" if of.latency_ms is None else f"{of.latency_ms:.3g}",
        "-" if of.teacher_kl is None else f"{of.teacher_kl:.3f}",
        "-" if of.teacher_r2 is None else f"{of.teacher_r2:.3f}",
    ]


def table_csv(study: Study, figures: StudyFigures) -> bytes:
    """The same with every metric, numbers with six digits; what is undefined is empty."""
    text = io.StringIO()
    names = list(figures.rows[0].values)
    writer = csv.writer(text, lineterminator="\n")
    own = [f"{figures.metric}_low", f"{figures.metric}_high"]
    told = ["baseline", "difference", "difference_low", "difference_high", "p", "p_corrected"]
    more = [name for name in asdict(Measures()) if name != "gap_interval"]
    writer.writerow([*HEAD, *names, *own, *told, *more, "gap_low", "gap_high"])
    for row in figures.rows:
        found = _of(figures, row)
        ends: list[object] = [None, None] if row.interval is None else [*row.interval]
        against: list[object] = [None] * len(told)
        if found is not None:
            span: list[object] = [None, None] if found.interval is None else [*found.interval]
            against = [found.baseline, found.value, *span, found.p, found.corrected]
        of = asdict(row.measures)
        gap: list[object] = [None, None] if of["gap_interval"] is None else of["gap_interval"]
        rest = [*(of[name] for name in more), *gap]
        cells = [row.condition, row.arm, row.seeds, row.parameters, *row.values.values(), *ends, *against, *rest]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue().encode()


def table_tex(study: Study, figures: StudyFigures) -> bytes:
    """A `tabular` for a paper; it needs no package."""
    lines = [
        r"\begin{tabular}{llrrrrlrl}",
        r"\hline",
        rf"condition & arm & parameters & kB & ms & {_tex(figures.metric)} & 95\,\% & difference & 95\,\% \\",
        r"\hline",
    ]
    for row in figures.rows:
        found, costs = _of(figures, row), _costs(row.measures)[:2]
        difference = "" if found is None or found.value is None else f"${found.value:+.3f}$"
        cells = [
            _tex(_title_of(study, row.condition)),
            _tex(study.titles.get(row.arm, row.arm)),
            "--" if row.parameters is None else str(row.parameters),
            *("--" if cell == "-" else cell for cell in costs),
            number(row.values[figures.metric]),
            _span(row.interval),
            difference,
            "" if found is None else _span(found.interval),
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""]).encode()


def _span(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def difference_text(study: Study, found: Difference, metric: str) -> str:
    """A contrast in words and figures."""
    own, other = (study.titles.get(arm, arm) for arm in (found.arm, found.baseline))
    where = _title_of(study, found.condition)
    if found.value is None:
        return f"{own} minus {other} ({where}): {metric} is undefined for one of the two"
    seen = "no interval" if found.visible is None else f"a true difference of {found.visible:.3f} would be seen in 80 %"
    p = "" if found.p is None else f", p {found.p:.3f}"
    return f"{own} minus {other} ({where}): {metric} {found.value:+.3f}{interval_text(found.interval)}{p}; {seen}"


def _of(figures: StudyFigures, row: Row) -> Difference | None:
    """The contrast whose arm a row is; the primary one before others."""
    both = [figures.primary, *figures.contrasts]
    return next((each for each in both if (each.condition, each.arm) == (row.condition, row.arm)), None)


def _against(study: Study, found: Difference) -> str:
    if found.value is None:
        return "undefined"
    baseline = cell_text(study.titles.get(found.baseline, found.baseline))
    return f"{found.value:+.3f}{interval_text(found.interval)} ({baseline})"


def _p(found: Difference) -> str:
    if found.corrected is not None:
        return f"{found.corrected:.3f}"
    return "-" if found.p is None else f"{found.p:.3f} (primary)"


def _title_of(study: Study, condition: str) -> str:
    return _titles(study)[condition]


def _titles(study: Study) -> Mapping[str, str]:
    return {condition.name: condition.title for condition in study.conditions}


def _tex(text: str) -> str:
    return "".join(_characters(text))


def _characters(text: str) -> Iterator[str]:
    for character in text:
        yield _TEX.get(character, character)
