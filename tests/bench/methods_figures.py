"""Means and 95 % Student t intervals over seeds, of single arms and of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.bootstrap import t_interval

Metrics = dict[str, float | None]  # by name, of one seed on the test images; None where undefined
Values = Sequence[float | None]  # of one metric, a seed each


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and its interval; None where there is nothing to average, or one seed alone."""

    mean: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        if self.interval is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {(self.interval[1] - self.interval[0]) / 2:.3f}"

    @property
    def signed(self) -> str:
        """A difference for people: with its sign, and a star where the interval leaves 0 out."""
        if self.mean is None:
            return "-"
        if self.interval is None:
            return f"{self.mean:+.3f}"
        clear = "*" if self.interval[0] > 0 or self.interval[1] < 0 else " "
        return f"{self.mean:+.3f} [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}]{clear}"

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "mean": None if self.mean is None else round(self.mean, 5),
            "interval": None if self.interval is None else [round(bound, 5) for bound in self.interval],
        }


def spread(values: Values) -> Spread:
    """Of one arm."""
    known = [value for value in values if value is not None]
    return Spread(float(np.mean(known)) if known else None, t_interval(known))


def difference(own: Values, other: Values) -> Spread:
    """Of `own` minus `other`, seed by seed."""
    return spread([a - b for a, b in zip(own, other, strict=True) if a is not None and b is not None])


def shown_metrics(task: str) -> tuple[str, str]:
    """The metrics of a table."""
    return ("macro_f1", "qwk") if task == "ordinal" else ("macro_f1", "auc")


def of(rows: Sequence[Metrics], metric: str) -> list[float | None]:
    """One metric of every seed."""
    return [row[metric] for row in rows]


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column stands left, the others right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
