"""Confusion matrix and reliability diagram as PNG, the same bytes for the same numbers."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.statistics.counts import confusion
from models.statistics.metrics import reliability

BLUE, ORANGE, GREY = "#2a6f97", "#d1742f", "#9aa5ad"


def confusion_png(
    task: str,
    classes: Sequence[str],
    prob: np.ndarray,
    label: np.ndarray,
    labels: np.ndarray | None,
    title: str,
) -> bytes:
    """Counts by true (rows) and predicted class (columns), shaded by share of the row.

    Multilabel: a row a label, the columns being right and wrong decisions at 0.5.
    """
    if labels is None:
        ones = np.ones((len(prob), 1))
        table = confusion(label, prob.argmax(axis=1), len(classes), ones)[0]
        columns, across = list(classes), "predicted"
    else:
        decided = prob >= 0.5
        sides = [(labels == 1) & decided, (labels == 1) & ~decided, (labels == 0) & decided, (labels == 0) & ~decided]
        table = np.stack([side.sum(axis=0) for side in sides], axis=1).astype(float)
        columns, across = ["found", "missed", "false alarm", "rightly not named"], "decision at 0.5"
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = max(4.5, 0.55 * len(columns) + 2.5)
    figure, axes = figure_of(side + 1, max(4.0, 0.5 * len(classes) + 2.5))
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    size = 9 if len(columns) <= 10 else 6
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            colour = "white" if share[i, j] > 0.55 else "black"
            axes.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(len(columns)), [short_name(c) for c in columns], rotation=35, ha="right", fontsize=size)
    axes.set_yticks(range(len(classes)), [short_name(c) for c in classes], fontsize=size)
    axes.set_xlabel(across)
    axes.set_ylabel("true class" if labels is None else "label")
    figure.colorbar(picture, ax=axes, label="share of the row")
    axes.set_title(wrapped(title), fontsize=10)
    return png_of(figure)


def reliability_png(
    task: str,
    shown: Sequence[tuple[str, np.ndarray]],
    label: np.ndarray,
    labels: np.ndarray | None,
    bins: int,
    title: str,
) -> bytes:
    """Share right against confidence for each named model; below, how many images stand in each bin."""
    figure, (axes, below) = figure_of(5.5, 6.0, rows=2, heights=[3, 1])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    edges = (np.arange(bins) + 0.5) / bins
    width = 0.8 / bins / max(len(shown), 1)
    for i, (name, prob) in enumerate(shown):
        colour = (BLUE, ORANGE, "#3f7d4e", "#7a4f9a")[i % 4]
        count, confidence, right = reliability(task, prob, label, labels, bins=bins)
        full = count > 0
        axes.plot(confidence[full], right[full], color=colour, marker="o", markersize=4, label=name)
        below.bar(edges + (i - (len(shown) - 1) / 2) * width, count, width=width, color=colour)
    many = labels is not None
    axes.set_ylabel("share that has the label" if many else "share that is right")
    below.set_xlabel("predicted probability" if many else "confidence of the prediction")
    below.set_ylabel("decisions" if many else "images")
    for each in (axes, below):
        each.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, loc="upper left")
    axes.set_title(wrapped(title), fontsize=10)
    return png_of(figure)


def figure_of(width: float, height: float, rows: int = 1, heights: Sequence[float] = (1,)) -> Any:
    # The object interface: pyplot keeps figures alive and picks a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, 1, height_ratios=list(heights))


def png_of(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; the report has it in full.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def short_name(name: str) -> str:
    # A dollar sign would start a formula.
    return textwrap.shorten(name.replace("$", r"\$"), 26, placeholder="…")


def wrapped(title: str) -> str:
    return textwrap.fill(title.replace("$", r"\$"), 60)
