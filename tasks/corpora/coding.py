"""How label texts become class numbers."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

COLUMNS = " | "
"""Between the cells of one column a class."""

_WHOLE = re.compile(r"(-?)\+?0*(\d+?)(?:\.0*|,0{1,2})?")
_MARKS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "x": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}


@dataclass(frozen=True)
class Coding:
    """How label texts become class numbers.

    Args:
        numbered: the text is the class number itself (EyePACS), whatever the classes are called.
        separator: between the labels of one image (multilabel).
        negative: text that means none of the classes (multilabel).
        unlabelled: texts that mean unlabelled, beside blank.
        others: labels that are none of the classes and say nothing against them (multilabel).
        columns: the text is that of one column a class, joined by `COLUMNS`: 1 or 0, blank where it is not known.
    """

    task: str
    classes: tuple[str, ...]
    numbered: bool = False
    separator: str = "|"
    negative: str | None = None
    unlabelled: frozenset[str] = frozenset()
    columns: bool = False
    others: frozenset[str] = frozenset()

    @cached_property
    def _folded(self) -> dict[str, int]:
        """Classes by `folded`, those alone of which no other is another spelling."""
        names = [folded(name) for name in self.classes]
        return {name: number for number, name in enumerate(names) if names.count(name) == 1}

    def respells(self, text: str) -> bool:
        """Whether a text is another spelling of a class."""
        return text not in self.classes and not self.numbered and folded(text) in self._folded

    def number(self, text: str) -> int:
        """Class number; ValueError says why there is none."""
        if self.numbered and folded(text).isdigit() and int(folded(text)) < len(self.classes):
            return int(folded(text))
        if text in self.classes:
            return self.classes.index(text)
        if self.respells(text):
            return self._folded[folded(text)]
        known = f"0 to {len(self.classes) - 1}" if self.numbered else ", ".join(self.classes)
        raise ValueError(f"label {text!r} is outside the classes ({known})")

    def names(self, text: str) -> list[str]:
        """The label texts within a cell, without blanks, the negative and the unlabelled ones."""
        if self.columns:
            return []
        parts = cell_labels(text, self.separator) if self.task == "multilabel" else [text.strip()]
        skipped = self.unlabelled | self.others | {self._none_of_them}
        return [p for p in parts if p and p not in skipped]

    def code(self, text: str) -> tuple[int, tuple[int, ...] | None]:
        """(label, labels) of a cell; ValueError when a label is outside the classes."""
        if self.columns:
            return self._of_columns(text)
        if self.task != "multilabel":
            return (self.number(text) if text and text not in self.unlabelled else -1), None
        if not text or text in self.unlabelled:
            return -1, self.unknown
        marked = {self.number(name) for name in self.names(text)}
        return -1, tuple(int(i in marked) for i in range(len(self.classes)))

    def _of_columns(self, text: str) -> tuple[int, tuple[int, ...] | None]:
        marks = []
        for name, cell in zip(self.classes, text.split(COLUMNS), strict=True):
            if not cell or cell in self.unlabelled:
                marks.append(-1)
            elif cell.casefold() in _MARKS:
                marks.append(_MARKS[cell.casefold()])
            else:
                raise ValueError(
                    f"{cell!r} in column {name!r} is neither 1 nor 0; list it in corpus.table.unlabelled if it means "
                    "not known"
                )
        if self.task == "multilabel":
            return -1, tuple(marks)
        if marks.count(1) == 1:
            return marks.index(1), None
        if set(marks) == {-1}:
            return -1, None
        raise ValueError(f"{marks.count(1)} of the columns are 1; one is needed, or corpus.task: multilabel")

    @property
    def unknown(self) -> tuple[int, ...] | None:
        """`labels` of an unlabelled image."""
        return (-1,) * len(self.classes) if self.task == "multilabel" else None

    @property
    def _none_of_them(self) -> str | None:
        return self.negative if self.task == "multilabel" else None


def folded(text: str) -> str:
    """For comparing labels: any case, blanks, underscores, dashes, widths and invisible characters; 1.0 as 1."""
    if not text.isascii():
        text = "".join(map(_plain, unicodedata.normalize("NFKC", text)))
    plain = " ".join(text.casefold().replace("_", " ").split())
    whole = _WHOLE.fullmatch(plain)
    return whole[1] + whole[2] if whole else plain


def _plain(letter: str) -> str:
    """One character of a folded text: a dash as a hyphen, an invisible one as nothing."""
    return {"Pd": "-", "Cf": ""}.get(unicodedata.category(letter), letter)


def cell_labels(text: str, separator: str) -> list[str]:
    """The labels within a cell; one that is written as a list, `['a', 'b']`, is split at its commas."""
    if text.startswith("[") and text.endswith("]"):
        return [part.strip().strip("'\"").strip() for part in text[1:-1].split(",")]
    return [part.strip() for part in text.split(separator)]


@dataclass(frozen=True)
class Codes:
    """What each distinct label text stands for; a further entry, the last, is that of no text at all.

    Args:
        label: int32, class number or -1.
        labels: list<int8>, 1, 0 or -1 a class where the corpus is multilabel, else null.
        known: bool, whether at least one label is known.
        wrong: string, why the text is no label; null where it is one.
    """

    label: np.ndarray
    labels: pa.ListArray
    known: np.ndarray
    wrong: pa.StringArray


def code_all(coding: Coding, texts: pa.StringArray) -> Codes:
    """Work out each text once."""
    found: list[tuple[int, tuple[int, ...] | None]] = []
    wrong: list[str | None] = []
    for text in texts.to_pylist():
        try:
            found.append(coding.code(text))
            wrong.append(None)
        except ValueError as error:
            found.append((-1, coding.unknown))
            wrong.append(str(error))
    found.append((-1, coding.unknown))
    wrong.append(None)
    label, labels = zip(*found, strict=True)
    known = [number >= 0 or any(v >= 0 for v in several or ()) for number, several in found]
    return Codes(
        np.array(label, np.int32),
        pa.array(labels, pa.list_(pa.int8())),
        np.array(known, bool),
        pa.array(wrong, pa.string()),
    )
