"""Rows in columns: a million images are an Arrow table, never a million Python objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tasks.data.catalog import OK

BATCH = 65_536
ATTRIBUTES = ("exam", "eye", "site", "camera", "date", "sex", "age", "projection", "gradable")
"""Columns of the catalog that an adapter may fill, beside patient, label and split; "" is not known."""

ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("name", pa.string()),
        ("label", pa.int32()),
        ("labels", pa.list_(pa.int8())),
        ("patient", pa.string()),
        ("split", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        *((name, pa.string()) for name in ATTRIBUTES),
    ]
)


@dataclass(frozen=True)
class Scan:
    """What an adapter found."""

    task: str  # single, ordinal or multilabel
    classes: tuple[str, ...]
    modality: str  # fundus, endoscopy, xray or other
    size: int  # default shorter side in pixels at ingest
    official: frozenset[str]  # splits that the corpus itself defines
    rows: RowTable
    notes: list[str] = field(default_factory=list)
    crop: str = "none"  # default of ingest.crop: none, fundus or endoscopy
    below: str = ""  # the folder of the source that rows' paths are relative to


@dataclass(slots=True)
class Row:
    """One image, or one label row without an image."""

    path: str | None  # POSIX path below the scan's folder; None for a label row without an image
    name: str  # what the corpus calls the image; its key is made from this
    label: int = -1  # class number; -1 unlabelled, and always -1 in a multilabel corpus
    labels: tuple[int, ...] | None = None  # multilabel: 1, 0 or -1 (unknown) a class
    patient: str = ""
    split: str = ""  # official split, "" where the corpus names none
    status: str = OK
    reason: str = ""
    exam: str = ""
    eye: str = ""
    site: str = ""
    camera: str = ""
    date: str = ""
    sex: str = ""
    age: str = ""
    projection: str = ""
    gradable: str = ""

    @property
    def labelled(self) -> bool:
        """Whether at least one label is known."""
        return self.label >= 0 or (self.labels is not None and any(v >= 0 for v in self.labels))


class RowTable:
    """Rows as an Arrow table of schema ROWS (`table`), read one by one as `Row`."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=BATCH):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield _row(values)

    def __getitem__(self, index: int) -> Row:
        index = range(len(self))[index]
        return _row(tuple(column[index].as_py() for column in self.table.columns))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowTable) and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]


def _row(values: tuple[Any, ...]) -> Row:
    path, name, label, labels, *rest = values
    return Row(path, name, label, None if labels is None else tuple(labels), *rest)
