"""The images of an export: test images that formats are compared on, training images that int8 is calibrated on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from models.augmentation.plain_view import plain_view, resize
from tasks.data.corpus import Corpus, Shard, load_image

COMPARED = 256
"""Most test images that formats are compared on."""

CALIBRATED = 128
"""Most training images that int8 is calibrated on."""


@dataclass(frozen=True)
class ComparedImages:
    """Labelled test images as one student's network takes them.

    Attributes:
        keys: [N].
        images: uint8 [N, S, S, 3].
        label: [N] int, -1 where the task is multilabel.
        labels: [N, C] int for multilabel, else None.
        patient: [N] names.
    """

    keys: np.ndarray
    images: np.ndarray
    label: np.ndarray
    labels: np.ndarray | None
    patient: np.ndarray


def compared_images(corpus: Corpus, report: Manifest, view_size: int, input_size: int) -> ComparedImages:
    """At most `COMPARED` of the test images that a report predicted with its best student, evenly spread by key.

    Raises:
        UsageError: the report predicted no test image with it.
        CorruptError: an image or the report's table is not what the store promises.
    """
    rows = _predicted(corpus, report)
    picked = [rows[place] for place in spread(len(rows), COMPARED)]
    where = {str(key): (shard, row) for shard in corpus.of_split("test") for row, key in enumerate(shard.keys)}
    places = [where[row["key"]] for row in picked]
    labels = None if picked[0]["labels"] is None else np.array([row["labels"] for row in picked])
    return ComparedImages(
        keys=np.array([row["key"] for row in picked]),
        images=_inputs(corpus, places, view_size, input_size),
        label=np.array([row["label"] for row in picked]),
        labels=labels,
        patient=np.array([shard.patient[row] for shard, row in places]),
    )


def calibration_images(corpus: Corpus, view_size: int, input_size: int) -> np.ndarray:
    """Plain views uint8 [N, S, S, 3] of at most `CALIBRATED` training images, evenly spread; no label is read.

    Errors as `compared_images`.
    """
    every = [(shard, int(row)) for shard in corpus.of_split("train") for row in np.flatnonzero(shard.used)]
    return _inputs(corpus, [every[place] for place in spread(len(every), CALIBRATED)], view_size, input_size)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread."""
    return [place * count // min(count, most) for place in range(min(count, most))]


def _predicted(corpus: Corpus, report: Manifest) -> list[dict[str, Any]]:
    best = report.facts["best"]
    table = pq.read_table(
        io.BytesIO(read_output(corpus.store, report.output(kind="predictions"))),
        columns=["key", "label", "labels"],
        filters=[("arm", "=", best["arm"]), ("seed", "=", best["seed"]), ("split", "=", "test")],
    )
    if not table.num_rows:
        raise UsageError(f"report {report.key[:12]} predicted no test image with {best['arm']} seed {best['seed']}")
    return sorted(table.to_pylist(), key=lambda row: str(row["key"]))


def _inputs(corpus: Corpus, places: Sequence[tuple[Shard, int]], view_size: int, input_size: int) -> np.ndarray:
    found = np.zeros((len(places), input_size, input_size, 3), dtype=np.uint8)
    for number, (shard, row) in enumerate(places):
        found[number] = resize(plain_view(load_image(corpus.store, shard, row), view_size), input_size)
    return found
