"""From images and what tables claim about them to rows: one label an image, or a reason why not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.claims import NOBODY, Claims
from tasks.corpora.coding import Codes, Coding, code_all
from tasks.corpora.rowtable import ROWS, RowTable
from tasks.corpora.texttable import Table, joined
from tasks.data.catalog import MISSING, OK, QUARANTINED

Refusals = Sequence[tuple[np.ndarray, pa.StringArray]]  # (positions, their reasons); a later one counts


_NOTHING = Claims(Table("", [], [], np.array([], np.int32)), pa.array([], pa.string()), np.array([], np.int32), 0)


class Rows:
    """Collects rows, many at a time, and counts what people should hear of."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self.images = self.absent = self.repeated = self.coded = self.outside = 0
        self._first_outside = ""
        self._parts: list[pa.Table] = []
        self._last: tuple[Claims, Codes] = (_NOTHING, code_all(coding, _NOTHING.texts))

    def add(
        self,
        path: pa.StringArray,
        name: pa.StringArray,
        claims: Claims = _NOTHING,
        subject: np.ndarray | None = None,
        *,
        patient: pa.StringArray | None = None,
        eye: pa.StringArray | None = None,
        split: pa.StringArray | None = None,
        refused: Refusals = (),
    ) -> None:
        """Add images.

        Args:
            path, name, eye: of each image.
            subject: its number in the claims, NOBODY for an image without a claim; default NOBODY for all.
            patient: goes before that of the claims where it is not blank.
            split: counts where the claims have none.
            refused: images to quarantine, whatever is claimed.
        """
        subject = np.full(len(name), NOBODY) if subject is None else subject
        self.images += len(name)
        row, reasons = claims.first[subject], Reasons(len(name))
        label, labels = self._labels(claims, subject, reasons, refused)
        self._keep(
            path=path,
            name=name,
            label=label,
            labels=labels,
            patient=_either(patient, _said(claims.patient, row)),
            eye=eye,
            split=_either(_said(claims.split, row), split),
            status=pc.if_else(pa.array(reasons.none), OK, QUARANTINED),
            reason=reasons.finish(),
        )

    def miss(
        self, name: pa.StringArray, claims: Claims, subject: np.ndarray, *, patient: pa.StringArray | None = None
    ) -> None:
        """Add subjects of claims that have no image; each has a row."""
        self.absent += len(name)
        row, reasons = claims.first[subject], Reasons(len(name))
        label, labels = self._labels(claims, subject, reasons)
        left = np.flatnonzero(reasons.none)
        reasons.put(left, joined(claims.table.places(row[left]), ": no such image"))
        self._keep(
            path=pa.nulls(len(name), pa.string()),
            name=name,
            label=label,
            labels=labels,
            patient=_either(patient, _said(claims.patient, row)),
            split=_said(claims.split, row),
            status=pa.repeat(MISSING, len(name)),
            reason=reasons.finish(),
        )

    def _labels(
        self, claims: Claims, subject: np.ndarray, reasons: Reasons, refused: Refusals = ()
    ) -> tuple[pa.Array, pa.Array]:
        """`label` and `labels` as far as they count; why others do not goes to the reasons."""
        if claims is not self._last[0]:
            self._last = (claims, code_all(self.coding, claims.texts))
        codes = self._last[1]
        row = claims.first[subject]
        code = claims.codes[row]
        agreed = claims.odd[subject] == NOBODY
        odd = np.flatnonzero(~agreed)
        reasons.put(odd, pa.array([claims.disagreement(s) for s in subject[odd].tolist()], pa.string()))
        self.repeated += int((agreed & claims.repeated[subject]).sum())
        self.coded += int((agreed & codes.known[code]).sum())
        wrong = np.flatnonzero(agreed & codes.wrong.is_valid().to_numpy(False)[code])
        said = joined(claims.table.places(row[wrong]), ": ", codes.wrong.take(pa.array(code[wrong])))
        reasons.put(wrong, said)
        if len(wrong) and not self.outside:
            self._first_outside = said[0].as_py()
        self.outside += len(wrong)
        for positions, why in refused:
            reasons.put(positions, why)
        code[~reasons.none] = len(claims.texts)  # the entry of no text: whatever was claimed does not count
        return pa.array(codes.label[code]), codes.labels.take(pa.array(code))

    def _keep(self, *, name: pa.StringArray, **others: pa.Array | None) -> None:
        given = [{"name": name, **others}.get(column) for column in ROWS.names]
        blank = pa.repeat("", len(name))
        self._parts.append(pa.table([blank if column is None else column for column in given], schema=ROWS))

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

    def put(self, rows: np.ndarray, texts: pa.StringArray) -> None:
        """Give rows their reasons, one each."""
        self._at[rows] = np.arange(self._held, self._held + len(rows))
        self._texts.append(texts)
        self._held += len(rows)

    def finish(self) -> pa.StringArray:
        """The reason of every row, "" for none."""
        return pa.concat_arrays(self._texts).take(pa.array(self._at))


def _said(column: pa.StringArray | None, row: np.ndarray) -> pa.StringArray | None:
    """A column at the rows, "" for NOBODY."""
    return None if column is None else column.take(pa.array(row, mask=row == NOBODY)).fill_null("")


def _either(first: pa.StringArray | None, second: pa.StringArray | None) -> pa.StringArray | None:
    """The first where it is not blank, else the second; None is blank throughout."""
    if first is None or second is None:
        return second if first is None else first
    return pc.if_else(pc.equal(first, ""), second, first)
