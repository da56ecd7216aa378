"""How label texts become class numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Coding:
    """How label texts become class numbers.

    Args:
        numbered: the text is the class number itself (EyePACS), whatever the classes are called.
        separator: between the labels of one image (multilabel).
        negative: text that means none of the classes (multilabel).
        unlabelled: texts that mean unlabelled, beside blank.
    """

    task: str
    classes: tuple[str, ...]
    numbered: bool = False
    separator: str = "|"
    negative: str | None = None
    unlabelled: frozenset[str] = frozenset()

    def number(self, text: str) -> int:
        """Class number; ValueError says why there is none."""
        if self.numbered and text.isascii() and text.isdigit() and int(text) < len(self.classes):
            return int(text)
        if text in self.classes:
            return self.classes.index(text)
        known = f"0 to {len(self.classes) - 1}" if self.numbered else ", ".join(self.classes)
        raise ValueError(f"label {text!r} is outside the classes ({known})")

    def names(self, text: str) -> list[str]:
        """The label texts within a cell, without blanks, the negative and the unlabelled ones."""
        parts = text.split(self.separator) if self.task == "multilabel" else [text]
        parts = [p.strip() for p in parts]
        return [p for p in parts if p and p not in self.unlabelled and p != self._none_of_them]

    def code(self, text: str) -> tuple[int, tuple[int, ...] | None]:
        """(label, labels) of a cell; ValueError when a label is outside the classes."""
        if self.task != "multilabel":
            return (self.number(text) if text and text not in self.unlabelled else -1), None
        if not text or text in self.unlabelled:
            return -1, self.unknown
        marked = {self.number(name) for name in self.names(text)}
        return -1, tuple(int(i in marked) for i in range(len(self.classes)))

    @property
    def unknown(self) -> tuple[int, ...] | None:
        """`labels` of an unlabelled image."""
        return (-1,) * len(self.classes) if self.task == "multilabel" else None

    @property
    def _none_of_them(self) -> str | None:
        return self.negative if self.task == "multilabel" else None


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
