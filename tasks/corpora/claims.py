"""From what tables claim about images to rows: one label an image, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.errors import CorpusError
from tasks.catalog import MISSING, QUARANTINED
from tasks.corpora.rowtable import Row, RowTable, RowWriter


@dataclass(frozen=True, slots=True)
class Claim:
    """What one row of a table says about an image."""

    where: str  # file and line
    label: str  # as written; "" is unlabelled
    patient: str = ""
    split: str = ""


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


class Rows:
    """Collects rows and counts what people should hear of. Only the newest row may still be changed."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self.writer = RowWriter()
        self.images = self.absent = 0
        self.repeated = self.coded = 0
        self._codes: dict[str, tuple[int, tuple[int, ...] | None]] = {}
        self.outside: list[str] = []

    def image(
        self,
        path: str,
        name: str,
        claims: Sequence[Claim] = (),
        *,
        patient: str = "",
        eye: str = "",
        split: str = "",
    ) -> Row:
        """Add an image; a patient or split given here goes before that of the claims."""
        row = Row(path, name, labels=self.coding.unknown, patient=patient, eye=eye, split=split)
        self.writer.add(row)
        self.images += 1
        if claims:
            self._settle(row, claims)
        return row

    def missing(self, name: str, claims: Sequence[Claim], *, patient: str = "") -> Row:
        """Add a label row that has no image."""
        row = Row(None, name, labels=self.coding.unknown, patient=patient)
        self.writer.add(row)
        self.absent += 1
        self._settle(row, claims)
        row.status = MISSING
        row.reason = row.reason or f"{claims[0].where}: no such image"
        return row

    def refuse(self, row: Row, reason: str) -> None:
        """Quarantine the newest row; what its label was then no longer matters."""
        assert row is self.writer.newest, "a row that is not the newest was settled already"
        row.status, row.reason = QUARANTINED, reason
        row.label, row.labels = -1, self.coding.unknown

    def _settle(self, row: Row, claims: Sequence[Claim]) -> None:
        first = claims[0]
        row.patient = row.patient or first.patient
        row.split = row.split or first.split
        for other in claims[1:]:
            for what, ours, theirs in (
                ("label", first.label, other.label),
                ("patient", first.patient, other.patient),
                ("split", first.split, other.split),
            ):
                if ours != theirs:
                    values = f" ({ours!r}, {theirs!r})" if what != "patient" else ""
                    self.refuse(row, f"{first.where} and {other.where} disagree on its {what}{values}")
                    return
        self.repeated += len(claims) > 1
        try:
            if first.label not in self._codes:
                self._codes[first.label] = self.coding.code(first.label)
            row.label, row.labels = self._codes[first.label]
            self.coded += row.labelled
        except ValueError as error:
            self.outside.append(f"{first.where}: {error}")
            self.refuse(row, self.outside[-1])

    def finish(self) -> tuple[RowTable, list[str]]:
        """Rows and notes; CorpusError when there is no image, or no label fits."""
        if not self.images:
            raise CorpusError(f"no image found, although there are {self.absent} label rows")
        if self.outside and not self.coded:
            raise CorpusError(
                f"not one of {len(self.outside)} labels is among the classes; first {self.outside[0]}. "
                "Set corpus.classes, or name the right label column"
            )
        notes = []
        if self.repeated:
            notes.append(f"{self.repeated} images have more than one row, all alike; one is kept")
        if self.outside:
            notes.append(f"{len(self.outside)} labels are outside the classes; first {self.outside[0]}")
        return self.writer.finish(), notes


def group(pairs: Iterable[tuple[str, Claim]]) -> dict[str, list[Claim]]:
    """Claims by image, in the order of the table."""
    grouped: dict[str, list[Claim]] = {}
    for name, claim in pairs:
        grouped.setdefault(name, []).append(claim)
    return grouped
