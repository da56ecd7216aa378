"""The plot of a study: every arm's figure with its interval, a panel a condition; PNG and SVG."""

from __future__ import annotations

import io
import warnings
from typing import Any

from tasks.drawing.plots import BLUE, GREY, ORANGE, figure_of, png_of
from tasks.study.design import Study
from tasks.study.figures import StudyFigures

PHANTOM = "drawn images: plumbing only"


def study_plot(study: Study, figures: StudyFigures, *, phantom: bool) -> tuple[bytes, bytes]:
    """PNG and SVG; the arm of the primary contrast is marked."""
    counts = [sum(row.condition == each.name for row in figures.rows) for each in study.conditions]
    height = 1.2 + 0.28 * sum(counts) + 0.5 * len(counts)
    figure, axes = figure_of(7.5, height, len(counts), counts)
    panels = list(axes) if len(counts) > 1 else [axes]
    for panel, condition in zip(panels, study.conditions, strict=True):
        _panel(panel, study, figures, condition.name)
        panel.set_title(condition.title, fontsize=9, loc="left")
    low, high = (end([panel.get_xlim()[place] for panel in panels]) for place, end in ((0, min), (1, max)))
    for panel in panels:
        panel.set_xlim(low, high)
    panels[-1].set_xlabel(figures.metric)
    note = f" ({PHANTOM})" if phantom else ""
    figure.suptitle(f"{study.kind}: {figures.images} test images of {figures.patients} patients{note}", fontsize=10)
    return png_of(figure), svg_of(figure)


def _panel(axes: Any, study: Study, figures: StudyFigures, condition: str) -> None:
    rows = [row for row in figures.rows if row.condition == condition]
    first = figures.primary
    for place, row in enumerate(rows):
        value = row.values[figures.metric]
        if value is None:
            continue
        colour = BLUE if row.arm in study.titles else GREY
        if (row.condition, row.arm) == (first.condition, first.arm):
            colour = ORANGE
        if row.interval is not None:
            axes.plot(row.interval, [place, place], color=colour, linewidth=1.5)
        axes.plot([value], [place], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(rows)), [study.titles.get(row.arm, row.arm) for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)


def svg_of(figure: Any) -> bytes:
    """The figure as SVG, the same bytes for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "stillroom", "svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
