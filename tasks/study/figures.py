"""The figures of a study: means, intervals, paired differences over patients crossed with seeds, corrected p values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.statistics.bootstrap import Interval, bootstrap, percentile_interval
from models.statistics.metrics import FIT_FREE, LOWER_IS_BETTER, metrics, names
from tasks.evaluate.arms import BASELINES
from tasks.study.design import Cell, Contrast, Study
from tasks.study.measures import Measures
from tasks.study.predictions import StudyPredictions

POWER = 2.8 / 1.96
"""Half-widths of a 95 % interval that a difference needs to be seen in 80 of 100 studies (two-sided, level 5 %)."""


@dataclass(frozen=True)
class Row:
    """One arm in one condition."""

    condition: str
    arm: str
    seeds: int
    parameters: int | None
    values: dict[str, float | None]  # mean over seeds of every metric
    interval: list[float] | None  # of the main metric, over patients crossed with seeds
    measures: Measures = field(default_factory=Measures)
    per_fold: list[dict[str, float | None]] = field(default_factory=list)  # means over seeds; empty without folds


@dataclass(frozen=True)
class Difference:
    """An arm minus its baseline on the main metric, larger is better.

    Attributes:
        interval: 95 %, patients and seeds resampled together.
        p: two-sided, by the same resamples; None where undefined.
        corrected: the same after Holm's correction (Holm 1979, Scand. J. Stat. 6) over all but the primary contrast.
        visible: the true difference that this study would see in 80 of 100 cases.
    """

    condition: str
    arm: str
    baseline: str
    baseline_condition: str
    value: float | None
    interval: list[float] | None
    p: float | None
    corrected: float | None
    visible: float | None


@dataclass(frozen=True)
class StudyFigures:
    """All figures of a study.

    Attributes:
        folds: of which what was said is joined; 1: the corpus's own test images.
        visible_own: the true difference that the primary contrast would see in 80 of 100 cases on the test images of
            the corpus's own splits alone; None without folds, or where it is undefined.
        own_images: how many of these there are.
    """

    metric: str
    images: int
    patients: int
    resamples: int
    rows: list[Row]
    primary: Difference
    contrasts: list[Difference]
    folds: int = 1
    visible_own: float | None = None
    own_images: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def study_metric(task: str, asked: str | None) -> str:
    """The main metric: the spec's where nothing is fitted for it, else the one that judges weights on validation."""
    return asked if asked in names(task) else FIT_FREE[task]


def figures_of(
    study: Study,
    found: StudyPredictions,
    *,
    metric: str,
    resamples: int,
    bins: int,
    measures: Mapping[Cell, Measures] | None = None,
) -> StudyFigures:
    """Every figure of the table.

    Args:
        metric: of `models.statistics.metrics.names`.
        resamples: of patients, with seeds drawn anew in each.
        measures: what else the table says of an arm.
    """
    crossed = _crossed(found, found.cells, metric, resamples, bins)
    told = measures or {}
    rows = [
        _row(cell, found, crossed, metric, bins, told.get(cell, Measures())) for cell in in_order(study, found.cells)
    ]
    values = {Cell(row.condition, row.arm): row.values[metric] for row in rows}
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    others = [_difference(each, values, crossed, sign) for each in study.contrasts]
    corrected = holm([each.p for each in others])
    folds, own = int(found.fold.max(initial=0)) + 1, None
    if folds > 1 and found.own_test.any():
        alone, both = found.where(found.own_test), (study.primary.cell, study.primary.baseline)
        again = _crossed(alone, both, metric, resamples, bins)
        own = _difference(study.primary, dict.fromkeys(both), again, sign).visible
    return StudyFigures(
        metric=metric,
        images=len(found.keys),
        patients=len(np.unique(found.patient)),
        resamples=resamples,
        rows=rows,
        primary=_difference(study.primary, values, crossed, sign),
        contrasts=[_with(each, p) for each, p in zip(others, corrected, strict=True)],
        folds=folds,
        visible_own=own,
        own_images=int(found.own_test.sum()),
    )


def _crossed(
    found: StudyPredictions, cells: Iterable[Cell], metric: str, resamples: int, bins: int
) -> dict[str, np.ndarray]:
    """The metric [R] of some arms, patients and seeds drawn anew in each resample."""
    said = {_name(cell): found.cells[cell] for cell in cells}
    drawn = bootstrap(
        found.task,
        {name: list(each.prob) for name, each in said.items()},
        found.label,
        found.labels,
        found.patient,
        resamples=resamples,
        metrics=[metric],
        bins=bins,
    )
    return drawn.crossed(metric, {name: each.seeds for name, each in said.items()})


def in_order(study: Study, cells: Iterable[Cell]) -> list[Cell]:
    """Conditions as they run; in each the students as the study lists them, teachers, then what needs no medicine."""
    conditions = [each.name for each in study.conditions]
    arms = list(study.titles)

    def place(cell: Cell) -> tuple[int, int, str]:
        kind = arms.index(cell.arm) if cell.arm in study.titles else len(arms) + (cell.arm in BASELINES)
        return conditions.index(cell.condition), kind, cell.arm

    return sorted(cells, key=place)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number, step down; None stays None and counts as none.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65.
    """
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    found: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - rank)))
        found[place] = round(highest, 6)
    return found


def _row(
    cell: Cell,
    found: StudyPredictions,
    crossed: Mapping[str, np.ndarray],
    metric: str,
    bins: int,
    measures: Measures,
) -> Row:
    said = found.cells[cell]
    means = _means(found, cell, bins)
    folds = [found.where(found.fold == number) for number in range(int(found.fold.max(initial=0)) + 1)]
    return Row(
        cell.condition,
        cell.arm,
        len(said.seeds),
        said.parameters,
        means,
        _ends(percentile_interval(crossed[_name(cell)])),
        measures,
        [_means(fold, cell, bins) for fold in folds] if len(folds) > 1 else [],
    )


def _means(found: StudyPredictions, cell: Cell, bins: int) -> dict[str, float | None]:
    """Every metric of an arm, the mean over its seeds; None where one is undefined."""
    each = [metrics(found.task, prob, found.label, found.labels, bins=bins) for prob in found.cells[cell].prob]
    return {
        name: None if any(one[name] is None for one in each) else round(float(np.mean([one[name] for one in each])), 6)
        for name in names(found.task)
    }


def _difference(
    contrast: Contrast, values: Mapping[Cell, float | None], crossed: Mapping[str, np.ndarray], sign: float
) -> Difference:
    own, other = values[contrast.cell], values[contrast.baseline]
    each = sign * (crossed[_name(contrast.cell)] - crossed[_name(contrast.baseline)])
    span = percentile_interval(each)
    return Difference(
        contrast.cell.condition,
        contrast.cell.arm,
        contrast.baseline.arm,
        contrast.baseline.condition,
        None if own is None or other is None else round(sign * (own - other), 6),
        _ends(span),
        _p_value(each),
        None,
        None if span is None else round(POWER * (span.high - span.low) / 2, 6),
    )


def _with(difference: Difference, corrected: float | None) -> Difference:
    return Difference(**{**asdict(difference), "corrected": corrected})


def _p_value(each: np.ndarray) -> float | None:
    """Two-sided p of a difference of zero by resamples [R], at least 2 / (R + 1); None where half are undefined."""
    known = each[np.isfinite(each)]
    if not len(known) or 2 * len(known) < len(each):
        return None
    low, high = ((known <= 0).sum() + 1) / (len(known) + 1), ((known >= 0).sum() + 1) / (len(known) + 1)
    return round(float(min(1.0, 2 * min(low, high))), 6)


def _ends(span: Interval | None) -> list[float] | None:
    return None if span is None else [round(span.low, 6), round(span.high, 6)]


def _name(cell: Cell) -> str:
    return f"{cell.condition}/{cell.arm}"
