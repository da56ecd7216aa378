"""What a decision of referral is made for: the image, the eye, the exam or the patient.

Images of one unit are decided together. An exam is one visit of one patient, an eye belongs to an exam where that is
known and else to a patient; an image of which that is not known stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IMAGE, EYE, EXAM, PATIENT = "image", "eye", "exam", "patient"
UNITS = (IMAGE, EYE, EXAM, PATIENT)
"""From the smallest to the largest."""

CORPUS = "corpus"
"""Column of a catalog of several corpora."""

_BETWEEN = "\x1f"  # of the parts of a name; no identifier holds it


@dataclass(frozen=True)
class Units:
    """The units of some images.

    Attributes:
        place: int [N], the unit of each image.
        patient: [U] names, whom each unit is drawn with.
        alone: images that stand for themselves because their unit is not known.
    """

    place: np.ndarray
    patient: np.ndarray
    alone: int

    def __len__(self) -> int:
        return len(self.patient)

    def largest(self, values: np.ndarray) -> np.ndarray:
        """The largest value [U] of each unit's images, of values [N] that are not negative."""
        found = np.zeros(len(self), values.dtype)
        np.maximum.at(found, self.place, values)
        return found

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean value [U] of each unit's images, of values [N]."""
        return np.bincount(self.place, values, minlength=len(self)) / np.bincount(self.place, minlength=len(self))


def units_of(rows: pa.Table, unit: str) -> Units:
    """The units of the images in some rows of a catalog."""
    keys, patient = rows["key"].to_pylist(), rows["patient"].to_pylist()
    names = _names(rows, unit)
    _, first, place = np.unique(
        [name or key for name, key in zip(names, keys, strict=True)], return_index=True, return_inverse=True
    )
    whole = [patient[at] or names[at] or keys[at] for at in first]
    alone = 0 if unit == IMAGE else sum(not name for name in names)
    return Units(place, np.array(whole, dtype=str), alone)


def known_units(rows: pa.Table) -> dict[str, int]:
    """How many of some catalog rows belong to a unit that is known, by unit; every image is one."""
    return {unit: sum(map(bool, _names(rows, unit))) for unit in UNITS}


def default_unit(rows: pa.Table) -> str:
    """The exam where it is known of as many images as the patient, else the patient where it is known, else the image.

    A person is referred, not a picture or an eye, and one who is seen again is decided for again: so the visit is the
    unit, as in the pivotal trial of Abramoff et al. (npj Digital Medicine 2018), and the patient where visits are not
    told apart.
    """
    known = known_units(rows)
    if known[EXAM] and known[EXAM] >= known[PATIENT]:
        return EXAM
    return PATIENT if known[PATIENT] else IMAGE


def _names(rows: pa.Table, unit: str) -> list[str]:
    """The unit of each row; "" where it is not known."""
    if unit == IMAGE:
        return [str(key) for key in rows["key"].to_pylist()]
    patient, exam, eye = (pc.fill_null(rows[name], "").to_pylist() for name in (PATIENT, EXAM, EYE))
    if unit == PATIENT:
        return [str(name) for name in patient]
    if CORPUS in rows.column_names:
        # Two hospitals may number their exams alike; patients are told apart already.
        patient = [who or f"{_BETWEEN}{corpus}" for who, corpus in zip(patient, rows[CORPUS].to_pylist(), strict=True)]
    if unit == EXAM:
        return [f"{who}{_BETWEEN}{visit}" if visit else "" for who, visit in zip(patient, exam, strict=True)]
    return [
        _BETWEEN.join((who, visit, side)) if side and (known or visit) else ""
        for who, known, visit, side in zip(patient, rows[PATIENT].to_pylist(), exam, eye, strict=True)
    ]
