"""What every arm of a study said of the test images, from the reports of its conditions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import CorruptError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.study.design import Cell


@dataclass(frozen=True)
class Said:
    """One arm in one condition.

    Attributes:
        seeds: in rising order; of a baseline or a teacher one.
        prob: [N, C] of each seed, on the test images of the study.
        parameters: of the network; None for a baseline.
    """

    seeds: tuple[int, ...]
    prob: tuple[np.ndarray, ...]
    parameters: int | None


@dataclass(frozen=True)
class _Fold:
    """What one report says.

    Attributes:
        truth: rows of one arm, sorted by key.
        prob: by arm, [N, C] of each seed, in the order of `truth`.
    """

    truth: pa.Table
    prob: Mapping[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class StudyPredictions:
    """All arms on one set of test images.

    Attributes:
        keys: [N] str, sorted.
        label: [N] int, -1 for multilabel.
        labels: [N, C] int8 for multilabel, else None.
        patient: [N] str.
        fold: [N] int: place of the report that judged the image.
        own_test: [N] bool: of the test images of the corpus's own splits.
    """

    task: str
    classes: Sequence[str]
    keys: np.ndarray
    label: np.ndarray
    labels: np.ndarray | None
    patient: np.ndarray
    cells: Mapping[Cell, Said]
    fold: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    own_test: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def where(self, rows: np.ndarray) -> StudyPredictions:
        """Of some images, bool [N]."""
        cells = {cell: replace(said, prob=tuple(prob[rows] for prob in said.prob)) for cell, said in self.cells.items()}
        labels = None if self.labels is None else self.labels[rows]
        return replace(
            self,
            keys=self.keys[rows],
            label=self.label[rows],
            labels=labels,
            patient=self.patient[rows],
            cells=cells,
            fold=self.fold[rows],
            own_test=self.own_test[rows],
        )


def read_predictions(store: Store, reports: Mapping[str, Sequence[Manifest]], catalog: pa.Table) -> StudyPredictions:
    """Predictions on the test images; of several folds those of all, each image said by models that did not see it.

    Args:
        reports: manifests of stage evaluate by condition, one a fold.
        catalog: of the corpus, for patients.

    Raises:
        CorruptError: the conditions were judged on different test images, or an image is in two folds.
    """
    first: list[_Fold] = []
    cells: dict[Cell, Said] = {}
    for condition, own in reports.items():
        folds = [_read(store, condition, report) for report in own]
        first = first or folds
        for fold, other in zip(folds, first, strict=True):
            if not _alike(fold.truth, other.truth):
                raise CorruptError(
                    f"condition {condition} was judged on other test images than the first condition of the study"
                )
        # Baselines and teachers that one fold lacks cannot be joined.
        for arm, row in own[0].facts["arms"].items():
            if all(arm in fold.prob for fold in folds):
                prob = tuple(np.concatenate(each) for each in zip(*(fold.prob[arm] for fold in folds), strict=True))
                cells[Cell(condition, arm)] = Said(tuple(sorted(row["seeds"])), prob, row.get("parameters"))
    truth = pa.concat_tables([fold.truth for fold in first])
    place = np.repeat(np.arange(len(first)), [len(fold.truth) for fold in first])
    keys = np.array(truth["key"].to_pylist(), dtype=str)
    if len(np.unique(keys)) < len(keys):
        raise CorruptError("an image is a test image of two folds of the study")
    facts: dict[str, Any] = next(iter(reports.values()))[0].facts
    rows = pc.index_in(pa.array(keys), value_set=catalog["key"].combine_chunks())
    patient = np.array(catalog["patient"].take(rows).to_pylist(), dtype=object)
    many = facts["task"] == "multilabel"
    return StudyPredictions(
        task=facts["task"],
        classes=facts["classes"],
        keys=keys,
        label=truth["label"].to_numpy(),
        labels=np.array(truth["labels"].to_pylist(), np.int8) if many else None,
        patient=np.array([own or key for own, key in zip(patient, keys, strict=True)], dtype=str),
        cells=cells,
        fold=place,
        own_test=np.array([split == "test" for split in catalog["split"].take(rows).to_pylist()], bool),
    )


def _read(store: Store, condition: str, report: Manifest) -> _Fold:
    output = report.output(kind="predictions")
    table = pq.read_table(io.BytesIO(read_output(store, output)), filters=[("split", "=", "test")])
    truth: pa.Table | None = None
    prob: dict[str, tuple[np.ndarray, ...]] = {}
    for arm, row in report.facts["arms"].items():
        own = table.filter(pc.equal(table["arm"], arm))
        parts = [own.filter(pc.equal(own["seed"], seed)).sort_by("key") for seed in sorted(row["seeds"])]
        for part in parts:
            truth = part if truth is None else truth
            if not _alike(part, truth):
                raise CorruptError(
                    f"condition {condition}: {arm} was judged on other test images than the first arm of the study"
                )
        prob[arm] = tuple(np.array(part["prob"].to_pylist(), np.float64) for part in parts)
    assert truth is not None
    return _Fold(truth, prob)


def _alike(one: pa.Table, other: pa.Table) -> bool:
    return bool(one["key"].to_pylist() == other["key"].to_pylist() and one["label"] == other["label"])
