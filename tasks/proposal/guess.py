"""Which column of a table is the image, the label, the patient, the split: guesses with their reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.corpora.base import stem
from tasks.corpora.names import Finder
from tasks.corpora.table import WORDS, in_order
from tasks.corpora.tabular import Table
from tasks.proposal import formatting

MOST_CLASSES = 60
PATTERNS = (
    r"^(\d+)[_-]",
    r"^([A-Za-z]+[_-]?\d+)[_-]",
    r"(?i)^(.+?)[_-](?:left|right|l|r|od|os|oi|og)(?:[_-]|$)",
    r"(?i)((?:patient|subject|case|pat)[_-]?\d+)",
)


@dataclass(frozen=True)
class Label:
    """A column that may be the label."""

    column: str
    task: str  # single, ordinal or multilabel
    counts: dict[str, int]  # images by class, in class order
    unlabelled: int  # rows without a label
    sentinels: tuple[str, ...]  # values that stand for unlabelled
    separator: str = "|"
    negative: str | None = None

    @property
    def labelled(self) -> int:
        """Rows with a label; in a multilabel column those of several classes count once each."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        shown = [f"{name} {n}" for name, n in list(self.counts.items())[:6]]
        more = len(self.counts) - len(shown)
        return ", ".join(shown) + (f" and {more} more classes" if more > 0 else "") + f"; unlabelled {self.unlabelled}"


@dataclass(frozen=True)
class Patient:
    """Where the patient stands, and why that is believed."""

    column: str | None = None
    pattern: str | None = None
    why: str = "no column names a patient and no part of the image names repeats; each image counts as its own patient"


def image_column(table: Table, finder: Finder) -> tuple[int, list[str]] | None:
    """(column, path a row or "") of the column whose cells name most images; None when none does.

    A cell that may mean several files counts for nothing.
    """
    best: tuple[int, int, list[str]] | None = None
    for number, name in enumerate(table.header):
        paths = finder.single(table.columns[number])
        hits = len({p for p in paths if p})
        # Of two columns that name equally many, one called image or file is the better guess.
        hint = bool(re.search(r"image|file|name|path|\bid", worded_name(name)))
        if hits > 0 and (best is None or (hits, hint) > (best[0], best[1])):
            best = (hits, int(hint), paths)
            column = number
    return None if best is None or best[0] < 2 else (column, best[2])


def worded_name(name: str) -> str:
    """Lower case, words apart."""
    return formatting.worded(name).lower()


def labels(table: Table, skip: Sequence[int], rows: Sequence[int]) -> list[Label]:
    """Columns that may be the label, the likeliest first.

    Args:
        skip: columns that are something else.
        rows: numbers of the rows that have an image.
    """
    found = []
    for number, name in enumerate(table.header):
        if number in skip or not name or formatting.NO_LABEL.search(formatting.worded(name)):
            continue
        label = _label(name, [cell for _, (cell,) in table.cells(number)], rows)
        if label is not None:
            found.append((bool(formatting.LABEL.search(formatting.worded(name))), label.labelled, -number, label))
    return [label for *_, label in sorted(found, key=lambda f: f[:3], reverse=True)]


def _label(name: str, cells: Sequence[str], rows: Sequence[int]) -> Label | None:
    own = [cells[row] for row in rows]
    sentinels = tuple(sorted({c for c in cells if c and c.casefold() in formatting.UNLABELLED}))
    known = [c for c in own if c and c not in sentinels]
    separator = _separator(known)
    if separator:
        return _multilabel(name, known, separator, len(own) - len(known), sentinels)
    counts = Counter(known)
    # A label repeats; a measurement, a date or an identifier hardly does.
    if not 2 <= len(counts) <= MOST_CLASSES or len(counts) > len(known) / 2:
        return None
    if all(re.fullmatch(r"-?\d+\.\d*[1-9]\d*", c) for c in counts):
        return None
    if len(counts) > 20 and all(re.fullmatch(r"-?\d+(\.\d+)?", c) for c in counts):
        return None
    order = in_order(set(counts))
    grades = order == [str(i) for i in range(len(order))] and len(order) > 2
    task = "ordinal" if grades and formatting.ORDERED.search(formatting.worded(name)) else "single"
    return Label(name, task, {c: counts[c] for c in order}, len(own) - len(known), sentinels)


def _separator(known: Sequence[str]) -> str | None:
    for separator in formatting.SEPARATORS:
        several = [c.split(separator) for c in known if separator in c]
        parts = Counter(p.strip() for c in known for p in c.split(separator))
        # Free text has commas too, but its parts do not come back.
        if len(several) > 1 and 2 <= len(parts) <= MOST_CLASSES and len(parts) <= len(known) / 2 and "" not in parts:
            return separator
    return None


def _multilabel(name: str, known: Sequence[str], separator: str, unlabelled: int, sentinels: tuple[str, ...]) -> Label:
    cells = [[p.strip() for p in c.split(separator)] for c in known]
    counts = Counter(p for parts in cells for p in parts)
    together = {p for parts in cells if len(parts) > 1 for p in parts}
    negative = next((p for p in counts if p.casefold() in formatting.NEGATIVE and p not in together), None)
    classes = {c: counts[c] for c in in_order(set(counts) - {negative})}
    return Label(name, "multilabel", classes, unlabelled, sentinels, separator, negative)


def split_column(table: Table, skip: Sequence[int]) -> str | None:
    """A column that says train, val or test, and nothing else."""
    known = {word for spoken in WORDS.values() for word in spoken}
    for number, name in enumerate(table.header):
        values = {cell.casefold() for _, (cell,) in table.cells(number)} - {""}
        if number not in skip and len(values) > 1 and values <= known:
            return name
    return None


def patient(
    table: Table,
    paths: Sequence[str],
    images: Sequence[str],
    skip: Sequence[int],
    splits: Mapping[str, str],
    classes: int,
) -> Patient:
    """Column or pattern of the patient.

    Args:
        paths: image of each row, "" for none.
        images: all images, also those without a row.
        skip: columns that are something else.
        splits: official split by path; a guess by which patients straddle splits is not made.
    """
    rows = [i for i, path in enumerate(paths) if path]
    for by_name in (True, False):
        for number, name in enumerate(table.header):
            said = formatting.worded(name)
            wanted = formatting.PATIENT if by_name else formatting.NUMBERED
            if number in skip or not wanted.search(said) or formatting.ABOUT_PERSON.search(said):
                continue
            cells = [cell for _, (cell,) in table.cells(number)]
            own = [cells[row] for row in rows if cells[row]]
            groups = Counter(own)
            repeats = sum(n > 1 for n in groups.values())
            if by_name and len(groups) > 1:
                return Patient(name, None, f"column {name!r}: {_people(groups)}")
            if repeats > 1 and len(groups) > max(2 * classes, len(own) / 10) and len(own) > 0.9 * len(rows):
                return Patient(name, None, f"column {name!r} repeats: {_people(groups)}")
    return pattern(images, splits, classes)


def pattern(images: Sequence[str], splits: Mapping[str, str], classes: int) -> Patient:
    """A patient guessed from the image names: a leading number, or what stands before left and right."""
    for text in PATTERNS:
        compiled = re.compile(text)
        matches = {path: compiled.search(stem(path)) for path in images}
        people = {path: m.group(1) for path, m in matches.items() if m}
        groups = Counter(people.values())
        repeats = sum(n > 1 for n in groups.values())
        # Few groups are more likely kinds of images than people; eight digits are often a date.
        enough = len(groups) > 2 * classes and repeats > 1 and repeats >= len(groups) / 50
        dates = sum(bool(re.search(r"(19|20)\d\d[01]\d[0-3]\d$", g)) for g in groups)
        if len(people) < 0.95 * len(images) or not enough or dates > len(groups) / 2:
            continue
        seen: dict[str, set[str]] = {}
        for path, split in splits.items():
            if path in people:
                seen.setdefault(people[path], set()).add(split)
        if all(len(own) == 1 for own in seen.values()):
            return Patient(None, text, f"image names begin alike ({text}): {_people(groups)}")
    return Patient()


def _people(groups: Counter[str]) -> str:
    return f"{len(groups)} patients with {sum(groups.values())} images, at most {max(groups.values())} each"
