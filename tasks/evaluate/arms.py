"""What an evaluation compares: models and baselines, the images they are judged on, and the main metric of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.bootstrap import Interval, Resampled, bootstrap
from models.statistics.metrics import LOWER_IS_BETTER, Assessment, assess, names
from tasks.data.corpus import Shard

BASELINES = ("majority", "thumbnails", "borders")
"""Arms that need no medicine."""

ENSEMBLE = "teachers"
"""The mean of the probabilities of several teachers: what a student that several teach learns from."""


@dataclass(frozen=True)
class Truth:
    """The judged images of one split, in shard order."""

    keys: np.ndarray  # [N] str
    label: np.ndarray  # [N] int32, -1 for multilabel
    labels: np.ndarray | None  # [N, C] int8
    patient: np.ndarray  # [N] str
    leak: np.ndarray  # [N] bool

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, parts: Sequence[tuple[Shard, np.ndarray]]) -> Truth:
        """Chosen rows (bool [N]) of each shard."""
        many = [s.labels[use] for s, use in parts if s.labels is not None]

        def column(name: str, kind: Any) -> np.ndarray:
            rows = [np.asarray(getattr(s, name))[use] for s, use in parts]
            return np.concatenate(rows) if rows else np.zeros(0, dtype=kind)

        return cls(
            keys=column("keys", object),
            label=column("label", np.int32),
            labels=np.concatenate(many) if many else None,
            patient=column("patient", object),
            leak=column("leak", bool),
        )

    def where(self, mask: np.ndarray) -> Truth:
        """Chosen rows."""
        labels = self.labels[mask] if self.labels is not None else None
        return Truth(self.keys[mask], self.label[mask], labels, self.patient[mask], self.leak[mask])


@dataclass(frozen=True)
class Arm:
    """One row of the comparison: a model in one or several seeds, or a baseline."""

    name: str  # of a student's arm (taught, labels_only, ...), teacher:<name>, teachers (their mean), of a baseline
    seeds: tuple[int, ...]
    val: tuple[np.ndarray, ...]  # [n_val, C] probabilities a seed
    test: tuple[np.ndarray, ...]  # [n_test, C] probabilities a seed
    parameters: int | None = None
    keys: tuple[str, ...] = ()  # manifest key a seed

    @property
    def is_teacher(self) -> bool:
        """Whether it is a teacher, not a student or a baseline."""
        return self.name.startswith("teacher:") or self.name == ENSEMBLE

    @property
    def is_student(self) -> bool:
        """Whether it is a student, of whatever arm."""
        return not self.is_teacher and self.name not in BASELINES


@dataclass(frozen=True)
class Judged:
    """One metric as it is computed: a metric of `models/statistics/metrics.py` on what is made of the predictions.

    Attributes:
        name: of the metric in the report.
        task, metric: as `models/statistics/metrics.py` takes them.
        arms: of the comparison; their predictions are those that the metric takes.
        val, test: with the labels that the metric takes.
    """

    name: str
    task: str
    metric: str
    arms: Sequence[Arm]
    val: Truth
    test: Truth

    def arm(self, name: str) -> Arm | None:
        """The arm of a name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def better(self, value: float) -> float:
        """The value such that larger is better."""
        return better(self.metric, value)

    def on_val(self, arm: Arm, bins: int) -> list[float | None]:
        """Validation figures, one a seed; None where undefined."""
        if not len(self.val):
            return [None] * len(arm.seeds)
        return [assess(self.task, p, self.val.label, self.val.labels, bins=bins).values[self.metric] for p in arm.val]

    def on_test(self, arm: Arm, bins: int) -> list[Assessment]:
        """Every test metric, one a seed."""
        return [assess(self.task, p, self.test.label, self.test.labels, bins=bins) for p in arm.test]

    def without_leaks(self, arm: Arm, bins: int) -> dict[str, float | None]:
        """Every metric as a mean over the seeds, on the test images that do not leak; None where undefined."""
        kept = ~self.test.leak
        if not kept.any():
            return dict.fromkeys(names(self.task))
        rest = self.test.where(kept)
        each = [assess(self.task, p[kept], rest.label, rest.labels, bins=bins).values for p in arm.test]
        return {name: mean_of([values[name] for values in each]) for name in names(self.task)}

    def resampled(self, split: str, resamples: int, bins: int, arms: Sequence[Arm] | None = None) -> Resampled | None:
        """The metric under resamples of patients; None without resamples or images.

        Args:
            split: val or test.
            arms: those that are scored; None: all.
        """
        truth = self.val if split == "val" else self.test
        if not resamples or not len(truth):
            return None
        return bootstrap(
            self.task,
            {arm.name: arm.val if split == "val" else arm.test for arm in (self.arms if arms is None else arms)},
            truth.label,
            truth.labels,
            truth.patient,
            resamples=resamples,
            metrics=[self.metric],
            bins=bins,
        )


def better(metric: str, value: float) -> float:
    """The value such that larger is better."""
    return -value if metric in LOWER_IS_BETTER else value


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of those that are defined; None where none is."""
    known = [value for value in values if value is not None]
    return rounded(float(np.mean(known))) if known else None


def pair_of(found: Interval | None) -> list[float | None] | None:
    """An interval for JSON."""
    return None if found is None else [rounded(found.low), rounded(found.high)]


def rounded(value: float | None) -> float | None:
    """Six digits are more than any interval resolves, and few enough to repeat on every machine."""
    return None if value is None else round(float(value), 6)
