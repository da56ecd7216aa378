"""Rows of a scan, from images and the labels that tables give them: one label an image, or a reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.coding import Codes, Coding, code_all
from tasks.corpora.csv_table import CsvTable, joined
from tasks.corpora.scan import ROWS, RowTable
from tasks.corpora.table_labels import ABSENT, TableLabels
from tasks.data.catalog import MISSING, OK, QUARANTINED

Attributes = Mapping[str, pa.StringArray]  # by name, of each row
Refusals = Sequence[tuple[np.ndarray, pa.StringArray]]  # (positions, their reasons); a later one counts


_NO_LABELS = TableLabels(
    CsvTable("", [], [], np.array([], np.int32)), pa.array([], pa.string()), np.array([], np.int32), 0
)


class RowBuilder:
    """Collects rows, many at a time, and counts what notes report."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self.images = self.absent = self.repeated = self.coded = self.outside = 0
        self._first_outside = ""
        self._parts: list[pa.Table] = []
        self._last: tuple[TableLabels, Codes] = (_NO_LABELS, code_all(coding, _NO_LABELS.texts))

    def add(
        self,
        path: pa.StringArray,
        name: pa.StringArray,
        given: TableLabels = _NO_LABELS,
        subject: np.ndarray | None = None,
        *,
        patient: pa.StringArray | None = None,
        split: pa.StringArray | None = None,
        attributes: Attributes | None = None,
        refused: Refusals = (),
    ) -> None:
        """Add images.

        Args:
            path, name: of each image.
            subject: number of each image in `given`, ABSENT for one without a row; default ABSENT for all.
            patient: goes before that of the tables where it is not blank.
            split: counts where the tables give none.
            attributes: go before those of the tables where they are not blank.
            refused: images to quarantine, whatever the tables say.
        """
        subject = np.full(len(name), ABSENT) if subject is None else subject
        self.images += len(name)
        row, reasons = given.first[subject], Reasons(len(name))
        label, labels = self._labels(given, subject, reasons, refused)
        self._append(
            path=path,
            name=name,
            label=label,
            labels=labels,
            patient=_either(patient, _at_rows(given.patient, row)),
            split=_either(_at_rows(given.split, row), split),
            **_attributes(attributes or {}, given, row),
            status=pc.if_else(pa.array(reasons.none), OK, QUARANTINED),
            reason=reasons.finish(),
        )

    def add_missing(
        self,
        name: pa.StringArray,
        given: TableLabels,
        subject: np.ndarray,
        *,
        patient: pa.StringArray | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """Add subjects that have no image; each has a row."""
        self.absent += len(name)
        row, reasons = given.first[subject], Reasons(len(name))
        label, labels = self._labels(given, subject, reasons)
        left = np.flatnonzero(reasons.none)
        reasons.set(left, joined(given.table.places(row[left]), ": no such image"))
        self._append(
            path=pa.nulls(len(name), pa.string()),
            name=name,
            label=label,
            labels=labels,
            patient=_either(patient, _at_rows(given.patient, row)),
            split=_at_rows(given.split, row),
            status=pa.repeat(MISSING, len(name)),
            **_attributes(attributes or {}, given, row),
            reason=reasons.finish(),
        )

    def _labels(
        self, given: TableLabels, subject: np.ndarray, reasons: Reasons, refused: Refusals = ()
    ) -> tuple[pa.Array, pa.Array]:
        """`label` and `labels` as far as they count; reasons say why others do not."""
        if given is not self._last[0]:
            self._last = (given, code_all(self.coding, given.texts))
        codes = self._last[1]
        row = given.first[subject]
        code = given.codes[row]
        agreed = given.odd[subject] == ABSENT
        odd = np.flatnonzero(~agreed)
        reasons.set(odd, pa.array([given.disagreement(s) for s in subject[odd].tolist()], pa.string()))
        self.repeated += int((agreed & given.repeated[subject]).sum())
        self.coded += int((agreed & codes.known[code]).sum())
        wrong = np.flatnonzero(agreed & codes.wrong.is_valid().to_numpy(False)[code])
        why = joined(given.table.places(row[wrong]), ": ", codes.wrong.take(pa.array(code[wrong])))
        reasons.set(wrong, why)
        if len(wrong) and not self.outside:
            self._first_outside = why[0].as_py()
        self.outside += len(wrong)
        for positions, texts in refused:
            reasons.set(positions, texts)
        code[~reasons.none] = len(given.texts)  # the entry of no text: what the tables give does not count
        return pa.array(codes.label[code]), codes.labels.take(pa.array(code))

    def _append(self, *, name: pa.StringArray, **others: pa.Array | None) -> None:
        columns = [{"name": name, **others}.get(column) for column in ROWS.names]
        blank = pa.repeat("", len(name))
        self._parts.append(pa.table([blank if column is None else column for column in columns], schema=ROWS))

    def finish(self) -> tuple[RowTable, list[str]]:
        """Rows and notes; CorpusError when there is no image, or no label fits."""
        if not self.images:
            raise CorpusError(f"no image found, although there are {self.absent} label rows")
        if self.outside and not self.coded:
            raise CorpusError(
                f"not one of {self.outside} labels is among the classes; first {self._first_outside}. "
                "Set corpus.classes, or name the right label column"
            )
        notes = []
        if self.repeated:
            notes.append(f"{self.repeated} images have more than one row, all alike; one is kept")
        if self.outside:
            notes.append(f"{self.outside} labels are outside the classes; first {self._first_outside}")
        return RowTable(pa.concat_tables(self._parts)), notes


class Reasons:
    """Why rows do not count, for a few of many rows; a later reason replaces an earlier one."""

    def __init__(self, rows: int) -> None:
        self._at = np.zeros(rows, np.int64)
        self._texts = [pa.array([""])]
        self._held = 1

    @property
    def none(self) -> np.ndarray:
        """Whether a row has no reason, bool."""
        return self._at == 0

    def set(self, rows: np.ndarray, texts: pa.StringArray) -> None:
        """Give rows their reasons, one each."""
        self._at[rows] = np.arange(self._held, self._held + len(rows))
        self._texts.append(texts)
        self._held += len(rows)

    def finish(self) -> pa.StringArray:
        """The reason of every row, "" for none."""
        return pa.concat_arrays(self._texts).take(pa.array(self._at))


def _at_rows(column: pa.StringArray | None, row: np.ndarray) -> pa.StringArray | None:
    """A column at the rows, "" for ABSENT."""
    return None if column is None else column.take(pa.array(row, mask=row == ABSENT)).fill_null("")


def _attributes(own: Attributes, given: TableLabels, row: np.ndarray) -> dict[str, pa.StringArray | None]:
    """Attributes of images: their own where not blank, else the tables' at the rows."""
    names = {*own, *given.attributes}
    return {name: _either(own.get(name), _at_rows(given.attributes.get(name), row)) for name in names}


def _either(first: pa.StringArray | None, second: pa.StringArray | None) -> pa.StringArray | None:
    """The first where it is not blank, else the second; None is blank throughout."""
    if first is None or second is None:
        return second if first is None else first
    return pc.if_else(pc.equal(first, ""), second, first)
