"""What every arm of a study said of the test images, from the reports of its conditions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
class StudyPredictions:
    """All arms on one set of test images.

    Attributes:
        keys: [N] str, sorted.
        label: [N] int, -1 for multilabel.
        labels: [N, C] int8 for multilabel, else None.
        patient: [N] str.
    """

    task: str
    classes: Sequence[str]
    keys: np.ndarray
    label: np.ndarray
    labels: np.ndarray | None
    patient: np.ndarray
    cells: Mapping[Cell, Said]


def read_predictions(store: Store, reports: Mapping[str, Manifest], catalog: pa.Table) -> StudyPredictions:
    """Predictions on the test images.

    Args:
        reports: manifest of stage evaluate by condition.
        catalog: of the corpus, for patients.

    Raises:
        CorruptError: the conditions were judged on different test images.
    """
    first: pa.Table | None = None
    cells: dict[Cell, Said] = {}
    for condition, report in reports.items():
        output = report.output(kind="predictions")
        table = pq.read_table(io.BytesIO(read_output(store, output)), filters=[("split", "=", "test")])
        for arm, row in report.facts["arms"].items():
            own = table.filter(pc.equal(table["arm"], arm))
            parts = [own.filter(pc.equal(own["seed"], seed)).sort_by("key") for seed in sorted(row["seeds"])]
            for part in parts:
                if first is None:
                    first = part
                if part["key"].to_pylist() != first["key"].to_pylist() or part["label"] != first["label"]:
                    raise CorruptError(
                        f"condition {condition}: {arm} was judged on other test images than the first arm of the study"
                    )
            prob = tuple(np.array(part["prob"].to_pylist(), np.float64) for part in parts)
            cells[Cell(condition, arm)] = Said(tuple(sorted(row["seeds"])), prob, row.get("parameters"))
    assert first is not None
    facts: dict[str, Any] = next(iter(reports.values())).facts
    keys = np.array(first["key"].to_pylist(), dtype=str)
    places = pc.index_in(pa.array(keys), value_set=catalog["key"].combine_chunks())
    patient = np.array(catalog["patient"].take(places).to_pylist(), dtype=object)
    many = facts["task"] == "multilabel"
    return StudyPredictions(
        task=facts["task"],
        classes=facts["classes"],
        keys=keys,
        label=first["label"].to_numpy(),
        labels=np.array(first["labels"].to_pylist(), np.int8) if many else None,
        patient=np.array([own or key for own, key in zip(patient, keys, strict=True)], dtype=str),
        cells=cells,
    )
