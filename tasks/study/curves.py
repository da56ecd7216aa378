"""Convergence: the validation metric of every arm against optimiser steps, from the records of its trainings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, read_output
from tasks.drawing.plots import figure_of, png_of
from tasks.study.design import Cell, Study
from tasks.study.plot import PHANTOM, svg_of
from tasks.study.runs import trainings_of

COLOURS = ("#d1742f", "#2a6f97", "#3f7d4e", "#7a4f9a", "#9a2a45", "#8a7a1f", "#3aa6a6", "#555555", "#c05aa0", "#5a79c0")


@dataclass(frozen=True)
class Curve:
    """One arm: the mean over its seeds.

    Attributes:
        steps: [P] optimiser steps since the first phase began.
        values: [S, P] of the validation metric, NaN where undefined.
        loss: [P] mean training loss; of phases with other losses it is not one curve.
    """

    steps: np.ndarray
    values: np.ndarray
    loss: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """JSON-safe; steps, mean of the metric (null where undefined)."""
        known = np.isfinite(self.values).all(axis=0)
        mean = [round(float(v), 6) if ok else None for v, ok in zip(self.values.mean(axis=0), known, strict=True)]
        return {"steps": [int(step) for step in self.steps], "mean": mean}


def read_curves(cache: StageCache, models: Mapping[Cell, Sequence[Manifest]], metric: str) -> dict[Cell, Curve]:
    """Curves of students, phases one after another; arms without a validation figure have none.

    Args:
        models: of stage distill, one a seed.
        metric: column of a history, such as val_macro_f1.
    """
    found = {}
    for cell, each in models.items():
        rows = [_rows(cache, model) for model in each]
        steps = sorted(set.intersection(*({step for step, row in own if metric in row} for own in rows)))
        if not steps:
            continue
        by_step = [dict(own) for own in rows]
        values = np.array([[own[step][metric] for step in steps] for own in by_step], float)
        loss = np.array([[own[step].get("loss", np.nan) for step in steps] for own in by_step], float).mean(axis=0)
        found[cell] = Curve(np.array(steps), values, loss)
    return found


def _rows(cache: StageCache, model: Manifest) -> list[tuple[int, dict[str, Any]]]:
    """Log points by step, counted from the beginning of the first phase."""
    before, rows = 0, []
    for training in trainings_of(cache, model):
        history = json.loads(read_output(cache.store, training.output(kind="history")))
        rows += [(before + int(row["step"]), row) for row in history]
        before += int(training.facts.get("steps", max((int(row["step"]) for row in history), default=0)))
    return rows


def curves_csv(curves: Mapping[Cell, Curve]) -> bytes:
    """condition, arm, step, mean, lowest and highest seed, training loss."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["condition", "arm", "step", "mean", "lowest", "highest", "loss"])
    for cell, curve in curves.items():
        spread = (curve.values.mean(axis=0), curve.values.min(axis=0), curve.values.max(axis=0), curve.loss)
        for step, *each in zip(curve.steps.tolist(), *(own.tolist() for own in spread), strict=True):
            writer.writerow([cell.condition, cell.arm, step, *("" if v != v else round(v, 6) for v in each)])
    return text.getvalue().encode()


def curves_plot(study: Study, curves: Mapping[Cell, Curve], metric: str, *, phantom: bool) -> tuple[bytes, bytes]:
    """PNG and SVG: a panel a condition, a line an arm, its seeds' range shaded."""
    shown = [each for each in study.conditions if any(cell.condition == each.name for cell in curves)]
    figure, axes = figure_of(7.5, 1.0 + 2.8 * max(1, len(shown)), max(1, len(shown)), [1] * max(1, len(shown)))
    panels = list(axes) if len(shown) > 1 else [axes]
    arms = list(study.titles)
    for panel, condition in zip(panels, shown, strict=False):
        for cell, curve in curves.items():
            if cell.condition != condition.name:
                continue
            colour = COLOURS[arms.index(cell.arm) % len(COLOURS)]
            style = "-" if arms.index(cell.arm) < len(COLOURS) else "--"
            low, high = curve.values.min(axis=0), curve.values.max(axis=0)
            panel.fill_between(curve.steps, low, high, color=colour, alpha=0.12, linewidth=0)
            title = study.titles[cell.arm]
            mean = curve.values.mean(axis=0)
            panel.plot(curve.steps, mean, style, color=colour, linewidth=1.4, marker=".", markersize=3, label=title)
        panel.set_title(condition.title, fontsize=9, loc="left")
        panel.set_ylabel(metric, fontsize=8)
        panel.grid(color="#dddddd", linewidth=0.5)
        panel.legend(fontsize=6, loc="best")
    panels[-1].set_xlabel("optimiser steps, all phases")
    note = f" ({PHANTOM})" if phantom else ""
    figure.suptitle(f"{study.kind}: validation images while training{note}", fontsize=10)
    return png_of(figure), svg_of(figure)
