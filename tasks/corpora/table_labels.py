"""Labels that the rows of a table give to images, as row numbers: nothing is stored for a row but its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpora.csv_table import CsvTable, coded, joined

ABSENT = -1  # in place of a row or a subject


class TableLabels:
    """Rows of a table by their subject: the image, or the name without an image, that they are about.

    Args:
        table: where the rows stand.
        label: its column of label texts.
        subject: int, number of each row's subject; ABSENT for rows that say nothing.
        subjects: how many subjects there are; some may have no row.
        patient: text of each row; default blank.
        split: text of each row; default blank.
        attributes: by name (`tasks.corpora.scan.ATTRIBUTES`), text of each row; default blank.

    Attributes:
        first: int64, first row of each subject; ABSENT for none. This one, `odd` and `repeated` have a further entry,
            the last, so that they may be asked for the subject ABSENT.
        odd: int64, first row of each subject that disagrees with its first; ABSENT for none.
        repeated: bool, whether a subject has several rows.
        texts: the distinct label texts.
        codes: int, place in them of each row; beyond their end for the row ABSENT.
    """

    def __init__(
        self,
        table: CsvTable,
        label: pa.StringArray,
        subject: np.ndarray,
        subjects: int,
        *,
        patient: pa.StringArray | None = None,
        split: pa.StringArray | None = None,
        attributes: Mapping[str, pa.StringArray] | None = None,
    ) -> None:
        self.table, self.subject, self.patient, self.split = table, subject, patient, split
        self.attributes = attributes or {}
        self._columns = {"label": label, "patient": patient, "split": split, **self.attributes}
        found = coded(label)
        self.texts, self.codes = found.texts, np.append(found.codes, len(found.texts))
        rows = np.flatnonzero(subject != ABSENT)
        self.first = _first(rows, subject, subjects)
        self.repeated = np.bincount(subject[rows], minlength=subjects + 1) > 1
        later = rows[self.first[subject[rows]] != rows]
        self.odd = _first(later[self._differs(later, self.first[subject[later]])], subject, subjects)

    def disagreement(self, subject: int) -> str:
        """Why a subject that has an odd row is not used."""
        first, odd = int(self.first[subject]), int(self.odd[subject])
        for what, column in self._columns.items():
            ours, theirs = ("", "") if column is None else (column[first].as_py(), column[odd].as_py())
            if ours != theirs:
                # A patient must not stand in the catalog of a private corpus.
                values = f" ({ours!r}, {theirs!r})" if what not in ("patient", "exam") else ""
                return f"{self.table.where(first)} and {self.table.where(odd)} disagree on its {what}{values}"
        raise ValueError(f"the rows of subject {subject} agree")

    def label_texts(self, subject: np.ndarray) -> set[str]:
        """The distinct label texts of all rows about these subjects."""
        wanted = np.zeros(len(self.first), bool)
        wanted[subject] = True
        wanted[ABSENT] = False
        codes = np.unique(self.codes[:-1][wanted[self.subject]])
        return set(self.texts.take(pa.array(codes)).to_pylist())

    def _differs(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        found = np.zeros(len(rows), bool)
        for column in self._columns.values():
            if column is not None:
                found |= pc.not_equal(column.take(pa.array(rows)), column.take(pa.array(others))).to_numpy(False)
        return found


@dataclass(frozen=True)
class LabelsByName:
    """Labels given to names, and which images have these names.

    Args:
        labels: a subject a name.
        names: name of each subject.
    """

    labels: TableLabels
    names: pa.StringArray

    def subject(self, names: pa.StringArray) -> np.ndarray:
        """int32, subject of each name; ABSENT for one without a row."""
        return pc.index_in(names, value_set=self.names).fill_null(ABSENT).to_numpy()

    def duplicates(self, subject: np.ndarray, folder: str) -> tuple[np.ndarray, pa.StringArray]:
        """Images whose subject an image before them has too, and why they are refused.

        Args:
            subject: of each image of a folder.
        """
        again = np.ones(len(subject), bool)
        again[np.unique(subject, return_index=True)[1]] = False
        rows = np.flatnonzero(again & (subject != ABSENT))
        places = self.labels.table.places(self.labels.first[subject[rows]])
        return rows, joined(places, f" names two files in {folder}/; keep one of them")

    def without_image(self, subject: np.ndarray) -> np.ndarray:
        """Subjects without an image, in the order of the table; `subject` is that of each image."""
        seen = np.zeros(len(self.names) + 1, bool)
        seen[subject] = True
        return np.flatnonzero(~seen[:-1])


def labels_by_name(
    table: CsvTable,
    name: pa.StringArray,
    label: pa.StringArray,
    *,
    patient: pa.StringArray | None = None,
    split: pa.StringArray | None = None,
    attributes: Mapping[str, pa.StringArray] | None = None,
) -> LabelsByName:
    """Labels of a table's rows, grouped by name."""
    names = coded(name)
    labels = TableLabels(
        table, label, names.codes, len(names.texts), patient=patient, split=split, attributes=attributes
    )
    return LabelsByName(labels, names.texts)


def _first(rows: np.ndarray, subject: np.ndarray, subjects: int) -> np.ndarray:
    """The lowest of the ascending rows of each subject."""
    first = np.full(subjects + 1, ABSENT, np.int64)
    first[subject[rows[::-1]]] = rows[::-1]  # of several values for one place numpy keeps the last
    return first
