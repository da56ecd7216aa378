"""Every image of a corpus on its way to the catalog, as columns.

A million images are a few hundred bytes each here, not a million Python objects: text stands in Arrow
arrays, numbers in numpy, and rules apply to masks of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpora.attributes import NO, YES
from tasks.corpora.scan import ATTRIBUTES
from tasks.data.catalog import CATALOG, LEFT_OUT, OK, QUARANTINED, SPLITS
from tasks.sources.passed_over import DICOM_SUFFIXES

NOT_READABLE = "not readable: "  # begins every reason that reading the file gave, and no other
STORED_TEXT = ("key", "source", "source_sha256", "patient", *ATTRIBUTES, "status", "reason")
TEXT = (*STORED_TEXT, "path", "stamp", "split_key")
NUMBERS = {
    "label": np.int32,  # class number, -1 unlabelled
    "official": np.int8,  # place in SPLITS of the corpus's own split, -1 none
    "split": np.int8,  # place in SPLITS, -1 none
    "width": np.int32,
    "height": np.int32,
    "bytes": np.int64,  # of the source file
    "leak": np.bool_,
    "quality": np.float32,  # 0 to 1, NaN where it is not known
    "overlay": np.int8,  # 1 where there is one, 0 where there is none, -1 where nobody looked
}
TRAIN, VAL, TEST = range(len(SPLITS))


class ImageTable:
    """Columns of equal length; `labels` is int8 [N, C] in a multilabel corpus, else None.

    `path` is the place below the source's root, "" where the row has no file; `stamp` is what the source
    needs to read the file again; `split_key` is what the splits hash.
    """

    def __init__(self, text: dict[str, pa.Array], numbers: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        self._text, self._numbers, self.labels = text, numbers, labels

    @classmethod
    def of(cls, length: int, labels: np.ndarray | None, **columns: Any) -> ImageTable:
        """A table with the columns given; text that is not is "", sizes 0, leak False, quality NaN, others -1."""
        blank = {"label": -1, "official": -1, "split": -1, "quality": np.nan, "overlay": -1}
        text = {n: as_text(columns[n]) if n in columns else pa.repeat("", length) for n in TEXT}
        numbers: dict[str, np.ndarray] = {
            n: np.array(columns[n], dtype=kind) if n in columns else np.full(length, blank.get(n, 0), dtype=kind)
            for n, kind in NUMBERS.items()
        }
        return cls(text, numbers, labels)

    def __len__(self) -> int:
        return len(self._text["key"])

    def text(self, name: str) -> pa.Array:
        """A text column."""
        return self._text[name]

    def numbers(self, name: str) -> np.ndarray:
        """A number column; writing into it changes the table."""
        return self._numbers[name]

    def set_text(self, name: str, rows: np.ndarray, values: str | pa.Array) -> None:
        """Set a text column where the mask `rows` says so.

        Args:
            values: one text for all, or one for each row of the mask.
        """
        if rows.any():
            new = pa.repeat(values, int(rows.sum())) if isinstance(values, str) else as_text(values)
            self._text[name] = pc.replace_with_mask(self._text[name], pa.array(rows), new)

    def quarantine(self, rows: np.ndarray, reason: str | pa.Array) -> None:
        """Quarantine rows."""
        self.set_text("status", rows, QUARANTINED)
        self.set_text("reason", rows, reason)
        self._numbers["split"][rows] = -1

    def leave_out(self, rows: np.ndarray, reason: str) -> None:
        """Mark usable rows that the spec does not use; they keep their split."""
        self.set_text("status", rows, LEFT_OUT)
        self.set_text("reason", rows, reason)

    def clear_labels(self, rows: np.ndarray) -> None:
        """Set the labels of rows to unknown."""
        self._numbers["label"][rows] = -1
        if self.labels is not None:
            self.labels[rows] = -1

    def where(self, name: str, value: str) -> np.ndarray:
        """[N] bool: rows whose text is `value`."""
        return mask(pc.equal(self._text[name], value))

    @property
    def usable(self) -> np.ndarray:
        """[N] bool: may go into a shard."""
        return self.where("status", OK)

    @property
    def has_file(self) -> np.ndarray:
        """[N] bool: a file of the corpus, not a label row without one."""
        return ~self.where("path", "")

    @property
    def is_dicom(self) -> np.ndarray:
        """[N] bool: named as DICOM is, so that its header may tell attributes."""
        ends = (pc.ends_with(self._text["path"], suffix, ignore_case=True) for suffix in DICOM_SUFFIXES)
        return mask(pc.or_(*ends))

    @property
    def labelled(self) -> np.ndarray:
        """[N] bool: at least one label is known."""
        return np.asarray(self._numbers["label"] >= 0 if self.labels is None else (self.labels >= 0).any(axis=1))

    @property
    def display_names(self) -> pa.Array:
        """[N] text, what messages and the quarantine call each row: the path, or the key where paths are private."""
        return pc.if_else(pc.equal(self._text["source"], ""), self._text["key"], self._text["source"])

    @property
    def patient_ids(self) -> pa.Array:
        """[N] text, what must not straddle splits: the patient, or the image where no patient is known."""
        return patient_ids_of(self._text["patient"], self._text["key"])

    def first_rows(
        self, names: Sequence[str] = ("key",), limit: int = 3, rows: np.ndarray | None = None
    ) -> list[list[str]]:
        """The first few rows of a mask as texts, for messages."""
        at = np.flatnonzero(rows)[:limit] if rows is not None else np.arange(min(limit, len(self)))
        columns = {"display_name": self.display_names, **self._text}
        return [[columns[name][int(i)].as_py() for name in names] for i in at]

    def only(self, rows: np.ndarray) -> ImageTable:
        """The rows of a mask as a table of their own."""
        chosen = pa.array(rows)
        text = {name: column.filter(chosen) for name, column in self._text.items()}
        numbers = {name: column[rows] for name, column in self._numbers.items()}
        return ImageTable(text, numbers, None if self.labels is None else self.labels[rows])

    def copy(self) -> ImageTable:
        """A table that may be changed alone; text, which is never changed in place, is shared."""
        numbers = {name: column.copy() for name, column in self._numbers.items()}
        return ImageTable(dict(self._text), numbers, None if self.labels is None else self.labels.copy())

    def append(self, other: ImageTable) -> None:
        """Add the rows of another table."""
        for name in TEXT:
            self._text[name] = pa.concat_arrays([self._text[name], other._text[name]])
        for name in NUMBERS:
            self._numbers[name] = np.concatenate([self._numbers[name], other._numbers[name]])
        if self.labels is not None and other.labels is not None:
            self.labels = np.concatenate([self.labels, other.labels])

    def by_key(self) -> np.ndarray:
        """Row numbers in the order of the keys' bytes."""
        return np.asarray(pc.sort_indices(self._text["key"]))

    def catalog(self) -> pa.Table:
        """The catalog: schema CATALOG, sorted by key."""
        size = len(self)
        split = np.where(self.usable | self.where("status", LEFT_OUT), self._numbers["split"], -1)
        names = pa.DictionaryArray.from_arrays(pa.array(split + 1), pa.array(["", *SPLITS])).cast(pa.string())
        columns = {
            **{n: self._text[n] for n in STORED_TEXT},
            **{n: pa.array(self._numbers[n]) for n in ("label", "width", "height", "leak", "quality")},
            **_typed(self._text["age"], self._text["gradable"]),
            "labels": list_column(self.labels, size),
            "split": names,
            "overlay": pa.array(self._numbers["overlay"] == 1, mask=self._numbers["overlay"] < 0),
        }
        table = pa.table([columns[n] for n in CATALOG.names], names=CATALOG.names)
        return table.take(pa.array(self.by_key())).cast(CATALOG)

    def batches(self, rows: np.ndarray, size: int) -> Iterator[pa.Table]:
        """Rows by number, a table of at most `size` of them at a time: text columns, label, labels, bytes."""
        for start in range(0, len(rows), size):
            at = rows[start : start + size]
            chosen = pa.array(at)
            yield pa.table(
                {
                    **{n: column.take(chosen) for n, column in self._text.items()},
                    **{n: pa.array(self._numbers[n][at]) for n in ("label", "official", "split", "bytes")},
                    "labels": list_column(None if self.labels is None else self.labels[at], len(at)),
                }
            )


def stored_texts(catalog: pa.Table) -> dict[str, pa.Array]:
    """Text columns of a table from rows of a catalog."""
    return {name: as_text(catalog[name]) for name in STORED_TEXT} | {
        "age": as_text(pc.if_else(pc.is_nan(catalog["age"]), "", catalog["age"].cast(pa.string()))),
        "gradable": as_text(pc.if_else(catalog["gradable"], YES, NO)),
    }


def _typed(age: pa.Array, gradable: pa.Array) -> dict[str, pa.Array]:
    """Attributes that the catalog holds as numbers and marks: float32 years, NaN for none; bool, null for none."""
    years = pc.if_else(pc.equal(age, ""), "nan", age).cast(pa.float32())
    return {"age": years, "gradable": pc.if_else(pc.equal(gradable, ""), None, pc.equal(gradable, YES))}


def as_text(values: Any) -> pa.Array:
    """One contiguous string array without nulls (null becomes "")."""
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.string())
    return array.cast(pa.string()).fill_null("")


def mask(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """[N] bool of an Arrow boolean; null is False."""
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def place_in(values: pa.Array, among: pa.Array) -> np.ndarray:
    """[N] int64: place of each value in `among`, -1 where it is not there."""
    return np.asarray(pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy(zero_copy_only=False), np.int64)


def patient_ids_of(patient: pa.Array, key: pa.Array) -> pa.Array:
    """`patient:<patient>`, or `image:<key>` where no patient is known."""
    return pc.if_else(
        pc.equal(patient, ""),
        pc.binary_join_element_wise("image:", key, ""),
        pc.binary_join_element_wise("patient:", patient, ""),
    )


def list_column(labels: np.ndarray | None, length: int) -> pa.Array:
    """int8 [N, C] as a list column; nulls for None."""
    if labels is None:
        return pa.nulls(length, pa.list_(pa.int8()))
    offsets = pa.array(np.arange(length + 1, dtype=np.int32) * labels.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(labels.reshape(-1)))


def matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray | None:
    """The int8 [N, C] that a list column holds; None when it is all null."""
    if column.null_count == len(column):
        return None
    flat = pc.list_flatten(column)
    return np.array(flat.to_numpy(zero_copy_only=False), dtype=np.int8).reshape(len(column), -1)
