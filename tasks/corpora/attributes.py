"""Attributes of images beside the label: one spelling each, whatever the corpus writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpora.csv_table import CsvTable, translated
from tasks.corpora.table_patients import NOBODY

YES, NO = "yes", "no"
FRONTAL, LATERAL = "frontal", "lateral"
FRONTAL_KINDS = ("AP", "PA")

_SEX = {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male", "o": "other", "other": "other"}
_EYE = {"l": "left", "left": "left", "os": "left", "le": "left", "r": "right", "right": "right", "od": "right"} | {
    "re": "right"
}
_GRADABLE = {"1": YES, "1.0": YES, "true": YES, "yes": YES, "y": YES} | {
    "0": NO,
    "0.0": NO,
    "false": NO,
    "no": NO,
    "n": NO,
}
_PROJECTION = {
    "frontal": FRONTAL,
    "lateral": LATERAL,
    "ap": "AP",
    "pa": "PA",
    "l": LATERAL,
    "ll": LATERAL,
    "rl": LATERAL,
    "lat": LATERAL,
}
_AGE = re.compile(r"0*(\d{1,3}(?:\.\d+)?)\s*(y|yr|yrs|years?|m|months?|w|weeks?|d|days?)?", re.I)
_IN_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_OLDEST = 130
_BANDS = ((18, "0 to 17"), (40, "18 to 39"), (65, "40 to 64"), (np.inf, "65 and above"))
_DATE = re.compile(r"(\d{4})[-/.]?(\d{2})?[-/.]?(\d{2})?(?:[T ].*)?")


def sex(text: str) -> str | None:
    """female, male or other; None where the text is none of these."""
    return _SEX.get(text.casefold())


def eye(text: str) -> str | None:
    """left or right."""
    return _EYE.get(text.casefold())


def gradable(text: str) -> str | None:
    """yes or no, of a mark."""
    return _GRADABLE.get(text.casefold())


def projection(text: str) -> str | None:
    """Of a radiograph: AP, PA, frontal where neither is known, lateral."""
    return _PROJECTION.get(text.casefold())


def age(text: str) -> str | None:
    """Years as text: of years (`68`, `058Y`), months (`006M`), weeks or days."""
    found = _AGE.fullmatch(text)
    if found is None:
        return None
    years = float(found[1]) * _IN_YEARS[(found[2] or "y")[0].lower()]
    return f"{years:.4g}" if years <= _OLDEST else None


def age_band(years: float) -> str:
    """The band of an age by which images are grouped: 0 to 17, 18 to 39, 40 to 64, 65 and above."""
    return next(name for end, name in _BANDS if years < end)


def day(text: str) -> str | None:
    """An ISO date, as far as it is known: year, month and day in this order; no other order is guessed."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    parts = [part for part in found.groups() if part]
    try:
        date(*(int(part) for part in (*parts, "1", "1")[:3]))
    except ValueError:
        return None
    return "-".join(parts)


_READ: Mapping[str, Callable[[str], str | None]] = {
    "eye": eye,
    "date": day,
    "sex": sex,
    "age": age,
    "projection": projection,
    "gradable": gradable,
}


def column_of(table: CsvTable, name: str, attribute: str) -> tuple[pa.StringArray, list[str]]:
    """A table's column as an attribute, and a note on cells that are not understood; these are "".

    Args:
        name: of the column.
        attribute: one of ATTRIBUTES.

    Raises:
        CorpusError: there is no such column.
    """
    texts = table.texts(name)
    read = _READ.get(attribute, lambda text: text)
    known = translated(texts, lambda text: "" if not text or text.casefold() in NOBODY else read(text))
    odd = np.flatnonzero(known.is_null().to_numpy(False))
    if not len(odd):
        return known, []
    row = int(odd[0])
    note = (
        f"{len(odd)} cells of column {name!r} are not understood as {attribute} and left blank; first "
        f"{texts[row].as_py()!r} at {table.where(row)}"
    )
    return pc.fill_null(known, ""), [note]


OLDEST = 90  # years that a store names of a private corpus: this age and all above


def less_known(attributes: Mapping[str, str]) -> dict[str, str]:
    """What a private corpus's store may know of attributes that a header tells: the year, no age above 89, no maker.

    The bound of the age is that of the Safe Harbor method of the US Health Insurance Portability and Accountability
    Act, 45 CFR 164.514(b)(2)(i)(C): all ages above 89 are one. A maker's name would have to be hashed with the secret,
    which workers do not have.
    """
    found = {name: text for name, text in attributes.items() if name not in ("camera", "site", "exam")}
    if "date" in found:
        found["date"] = found["date"][:4]
    if "age" in found:
        found["age"] = youngest_told(found["age"])
    return found


def youngest_told(text: str) -> str:
    """An age as a private corpus's store may know it."""
    return str(OLDEST) if text and float(text) > OLDEST - 1 else text


def projections(texts: pa.StringArray, finer: pa.StringArray) -> pa.StringArray:
    """Projections of two columns, where the second says which frontal one it is (CheXpert)."""
    coarse = translated(texts, lambda text: projection(text) or "")
    kind = translated(finer, lambda text: projection(text) or "")
    return pc.if_else(pc.and_(pc.equal(coarse, FRONTAL), pc.is_in(kind, pa.array(FRONTAL_KINDS))), kind, coarse)
