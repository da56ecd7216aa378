"""Predictions of an evaluation as arrays, and how the student to register decides on them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.decisions import decision_of

NAMED = 0.5
"""Probability from which a label of several is named."""


@dataclass(frozen=True)
class Predicted:
    """One model's answers for the labelled images of one split."""

    keys: list[str]  # [N]
    label: np.ndarray  # [N] int, -1 for multilabel
    labels: np.ndarray | None  # [N, C] int, -1 unknown
    prob: np.ndarray  # [N, C] float64

    def __len__(self) -> int:
        return len(self.keys)


class PredictionTable:
    """The table of predictions of a report."""

    def __init__(self, store: Store, report: Manifest) -> None:
        self._store, self._report = store, report
        self.facts: Mapping[str, Any] = report.facts

    def of(self, arm: str, seed: int, split: str) -> Predicted:
        """Rows of one model and split, in the table's order."""
        wanted = pc.and_(
            pc.and_(pc.equal(self._table["arm"], arm), pc.equal(self._table["seed"], seed)),
            pc.equal(self._table["split"], split),
        )
        rows = self._table.filter(wanted)
        classes = len(self.facts["classes"])
        many = rows["labels"].to_pylist() if self.facts["task"] == "multilabel" else None
        return Predicted(
            keys=rows["key"].to_pylist(),
            label=rows["label"].to_numpy(),
            labels=None if many is None else np.array(many, int).reshape(len(rows), classes),
            prob=np.array(rows["prob"].to_pylist(), np.float64).reshape(len(rows), classes),
        )

    @cached_property
    def _table(self) -> pa.Table:
        data = read_output(self._store, self._report.output(kind="predictions"))
        return pq.read_table(io.BytesIO(data)).combine_chunks()


def how_decided(facts: Mapping[str, Any]) -> str:
    """For people: what `decided` does."""
    if facts["task"] == "multilabel":
        return f"a label is named from a probability of {NAMED} on"
    how = decision_of(facts, facts["best"]["arm"], facts["best"]["seed"])
    if how.get("cut_points"):
        return "the grade is that of the cut points fitted on validation images"
    if any(how.get("logit_shift") or ()):
        return "the class is that of the logits shifted as chosen on validation images"
    return "the class is the likeliest one"
