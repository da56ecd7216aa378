"""Guess which column of a table is the image, the label, the patient or the split, from its name and its values.

The guesses carry their reasons, because a person reads and corrects them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.corpora.base import stem
from tasks.corpora.csv_table import CsvTable
from tasks.corpora.path_matching import PathMatcher
from tasks.corpora.table import WORDS
from tasks.corpora.table_classes import NOT_LABELS, in_order, usual_spellings

UNLABELLED = NOT_LABELS | frozenset(
    ("-", "--", "?", "na", "n/a", "nan", "null", "unknown", "ungraded", "unlabelled", "unlabeled", "not graded", "-1")
)
NEGATIVE = frozenset(("no finding", "no findings", "normal", "negative", "healthy", "none"))
SEPARATORS = ("|", ";", ",")

LABEL = re.compile(
    r"label|level|grade|class|diagnos|\bdx\b|finding|categor|target|severity|stage|disease|\b(dr|dme|rdr|amd)\b"
    r"|retinopathy|findings|patholog",
    re.I,
)
ORDERED = re.compile(r"level|grade|stage|severity|score|diagnosis|\bdr\b|retinopathy", re.I)
PATIENT = re.compile(r"patient|subject|\bperson|\bcase\b|\bpid\b|\bmrn\b|participant", re.I)
NUMBERED = re.compile(r"id$|\bid\b|_id|number|code|exam|study|lesion", re.I)
NO_LABEL = re.compile(
    r"\bage\b|patient|subject|\bsex\b|gender|birth|date|time|view|position|width|height|size|pixel|spacing|camera"
    r"|device|scanner|site\b|hospital|\beye\b|side|lateral|follow|quality|race|ethnic|\bid$|_id\b|url|path|file"
    r"|localization|dx_type",
    re.I,
)
ABOUT_PERSON = re.compile(r"\bage\b|age$|sex|gender|birth|race|ethnic|name$", re.I)

# Which augmentations make sense: the first kind with a word in the folder's, columns' or classes' names.
MODALITIES = {
    "xray": re.compile(r"chest|x-?ray|\bcxr|thora|pneumon|pneumothorax|cardiomegaly|no finding|effusion|mammo", re.I),
    "fundus": re.compile(r"fundus|retin|\bdr\b|\bdme\b|macul|glaucom|eyepacs|messidor|aptos|\bamd\b", re.I),
    "endoscopy": re.compile(r"endoscop|kvasir|polyp|colon|gastr|esophag|cecum", re.I),
    "skin": re.compile(r"derm|isic|skin|nevus|naevus|melanom|lesion", re.I),
    "histology": re.compile(r"histo|patholog(?!ic)|slide|patch|stain", re.I),
}
SIDED = re.compile(r"\b(left|right)\b", re.I)

MOST_CLASSES = 60
MOST_FRACTIONS = 5  # classes of numbers with decimals, above which the column is a measurement
_TRUE, _FALSE = frozenset(("1", "1.0", "true")), frozenset(("0", "0.0", "false"))
_BINARY = _TRUE | _FALSE | {"", "-1", "-1.0"}
_DECIMAL_COMMA = re.compile(r"-?\d+,0+$")
FOLDER_PATTERN = r"(?i)(?:^|/)((?:patient|subject|case|pat)[_-]?\d+)(?:/|$)"
PATTERNS = (
    r"^(\d+)[_-]",
    r"^([A-Za-z]+[_-]?\d+)[_-]",
    r"(?i)^(.+?)[_-](?:left|right|l|r|od|os|oi|og)(?:[_-]|$)",
    r"(?i)((?:patient|subject|case|pat)[_-]?\d+)",
)


@dataclass(frozen=True)
class LabelColumn:
    """A column that may be the label."""

    column: str
    task: str  # single, ordinal or multilabel
    counts: dict[str, int]  # images by class, in class order
    unlabelled: int  # rows without a label
    sentinels: tuple[str, ...]  # values that stand for unlabelled
    separator: str = "|"
    negative: str | None = None
    columns: tuple[str, ...] = ()  # of 1 and 0, one a class; then `column` names the first

    @property
    def labelled(self) -> int:
        """Rows with a label; in a multilabel column those of several classes count once each."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        shown = [f"{name} {n}" for name, n in list(self.counts.items())[:6]]
        more = len(self.counts) - len(shown)
        return ", ".join(shown) + (f" and {more} more classes" if more > 0 else "") + f"; unlabelled {self.unlabelled}"


@dataclass(frozen=True)
class PatientSource:
    """Where the patient is read from, and the reason for that guess."""

    column: str | None = None
    pattern: str | None = None
    why: str = "no column names a patient and no part of the image names repeats; each image counts as its own patient"


def image_column(table: CsvTable, finder: PathMatcher) -> tuple[int, list[str]] | None:
    """(column, path a row or "") of the column whose cells name most images; None when none does.

    A cell that may mean several files counts for nothing.
    """
    best: tuple[int, int, list[str]] | None = None
    for number, name in enumerate(table.header):
        paths = finder.single(table.columns[number])
        hits = len({p for p in paths if p})
        # Of two columns that name equally many, one called image or file is the better guess.
        hint = bool(re.search(r"image|file|name|path|\bid", split_words(name).lower()))
        if hits > 0 and (best is None or (hits, hint) > (best[0], best[1])):
            best = (hits, int(hint), paths)
            column = number
    return None if best is None or best[0] < 2 else (column, best[2])


def label_columns(table: CsvTable, skip: Sequence[int], rows: Sequence[int]) -> list[LabelColumn]:
    """Columns that may be the label, the likeliest first.

    Args:
        skip: columns that are something else.
        rows: numbers of the rows that have an image.
    """
    found = []
    for number, name in enumerate(table.header):
        if number in skip or not name or NO_LABEL.search(split_words(name)):
            continue
        label = _label(name, [cell for _, (cell,) in table.cells(number)], rows)
        if label is not None:
            found.append((bool(LABEL.search(split_words(name))), label.labelled, -number, label))
    return [label for *_, label in sorted(found, key=lambda f: f[:3], reverse=True)]


def _label(name: str, cells: Sequence[str], rows: Sequence[int]) -> LabelColumn | None:
    own = [cells[row] for row in rows]
    sentinels = tuple(sorted({c for c in cells if c and c.casefold() in UNLABELLED}))
    known = _one_spelling([c for c in own if c and c not in sentinels])
    separator = _separator(known)
    if separator:
        return _multilabel(name, known, separator, len(own) - len(known), sentinels)
    counts = Counter(known)
    # A label repeats; a measurement, a date or an identifier hardly does.
    if not 2 <= len(counts) <= MOST_CLASSES or len(counts) > len(known) / 2:
        return None
    fractions = sum(re.fullmatch(r"-?\d+[.,]\d*[1-9]\d*", c) is not None for c in counts)
    numbers = all(re.fullmatch(r"-?\d+([.,]\d+)?", c) for c in counts)
    if fractions == len(counts) or (numbers and fractions and len(counts) > MOST_FRACTIONS):
        return None
    if len(counts) > 20 and all(re.fullmatch(r"-?\d+(\.\d+)?", c) for c in counts):
        return None
    order = in_order(set(counts))
    grades = order == [str(i) for i in range(len(order))] and len(order) > 2
    task = "ordinal" if grades and ORDERED.search(split_words(name)) else "single"
    return LabelColumn(name, task, {c: counts[c] for c in order}, len(own) - len(known), sentinels)


def _one_spelling(labels: Sequence[str]) -> list[str]:
    """The labels with all spellings of one word as the most frequent of them, as a run takes them."""
    usual = usual_spellings(Counter(labels))
    return [usual.get(label, label) for label in labels]


def one_hot_label(table: CsvTable, skip: Sequence[int], rows: Sequence[int]) -> LabelColumn | None:
    """Columns of 1 and 0, one a class, taken together; None where there are not at least three (two that exclude each
    other).

    Args:
        skip, rows: as of `label_columns`.
    """
    names, columns = [], []
    for number, name in enumerate(table.header):
        cells = [cell for _, (cell,) in table.cells(number)]
        own = [cells[row] for row in rows]
        values = {cell.casefold() for cell in own}
        if number not in skip and name and _TRUE & values and values <= _BINARY:
            names.append(name)
            columns.append(own)
    positive = [[cell.casefold() in _TRUE for cell in own] for own in columns]
    several = [sum(row) for row in zip(*positive, strict=True)]
    said = [any(cell.casefold() in _FALSE for cell in row) for row in zip(*columns, strict=True)]
    none = sum(n == 0 and known for n, known in zip(several, said, strict=True))
    # A run keeps a row of zeros out where one label is needed; many of them mean none of the classes.
    exclusive = max(several, default=0) == 1 and sum(n == 1 for n in several) > len(several) / 2
    exclusive = exclusive and none <= len(several) / 20
    if len(names) < 2 or (len(names) == 2 and not exclusive):
        return None
    sentinels = tuple(sorted({cell for own in columns for cell in own if cell.startswith("-")}))
    counts = {name: sum(own) for name, own in zip(names, positive, strict=True)}
    unlabelled = sum(not any(row) for row in zip(*positive, strict=True)) if exclusive else 0
    task = "single" if exclusive else "multilabel"
    return LabelColumn(names[0], task, counts, unlabelled, sentinels, columns=tuple(names))


def _separator(known: Sequence[str]) -> str | None:
    for separator in SEPARATORS:
        cells = [c.strip(f"{separator} ") for c in known]
        several = [c.split(separator) for c in cells if separator in c]
        if separator == "," and all(_DECIMAL_COMMA.match(c) for c in known if separator in c):
            continue  # grades with a decimal comma
        alone = {p.strip() for parts in several for p in parts} & set(cells)
        if len({tuple(parts) for parts in several}) < 2 and not alone:
            continue  # one class whose name has it
        parts = Counter(p.strip() for c in cells for p in c.split(separator))
        # Free text has commas too, but its parts do not come back.
        if len(several) > 1 and 2 <= len(parts) <= MOST_CLASSES and len(parts) <= len(known) / 2 and "" not in parts:
            return separator
    return None


def _multilabel(
    name: str, known: Sequence[str], separator: str, unlabelled: int, sentinels: tuple[str, ...]
) -> LabelColumn:
    cells = [[p.strip() for p in c.split(separator) if p.strip()] for c in known]
    usual = dict(zip(own := [p for parts in cells for p in parts], _one_spelling(own), strict=True))
    cells = [[usual[p] for p in parts] for parts in cells]
    counts = Counter(p for parts in cells for p in parts)
    together = {p for parts in cells if len(parts) > 1 for p in parts}
    negative = next((p for p in counts if p.casefold() in NEGATIVE and p not in together), None)
    classes = {c: counts[c] for c in in_order(set(counts) - {negative})}
    return LabelColumn(name, "multilabel", classes, unlabelled, sentinels, separator, negative)


def split_column(table: CsvTable, skip: Sequence[int]) -> str | None:
    """The column whose values are train, val and test, and nothing else."""
    known = {word for synonyms in WORDS.values() for word in synonyms}
    for number, name in enumerate(table.header):
        values = {cell.casefold() for _, (cell,) in table.cells(number)} - {""}
        if number not in skip and len(values) > 1 and values <= known:
            return name
    return None


def patient_source(
    table: CsvTable,
    paths: Sequence[str],
    images: Sequence[str],
    skip: Sequence[int],
    splits: Mapping[str, str],
    classes: int,
) -> PatientSource:
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
            words = split_words(name)
            wanted = PATIENT if by_name else NUMBERED
            if number in skip or not wanted.search(words) or ABOUT_PERSON.search(words):
                continue
            cells = [cell for _, (cell,) in table.cells(number)]
            own = [cells[row] for row in rows if cells[row]]
            groups = Counter(own)
            repeats = sum(n > 1 for n in groups.values())
            if by_name and len(groups) > 1:
                return PatientSource(name, None, f"column {name!r}: {_count_text(groups)}")
            if repeats > 1 and len(groups) > max(2 * classes, len(own) / 10) and len(own) > 0.9 * len(rows):
                return PatientSource(name, None, f"column {name!r} repeats: {_count_text(groups)}")
    return patient_pattern(images, splits, classes)


def patient_pattern(images: Sequence[str], splits: Mapping[str, str], classes: int) -> PatientSource:
    """A patient guessed from the image names: a leading number, or what stands before left and right."""
    for text in (*PATTERNS, FOLDER_PATTERN):
        compiled = re.compile(text)
        inside = text == FOLDER_PATTERN
        matches = {path: compiled.search(path if inside else stem(path)) for path in images}
        patients = {path: m.group(1) for path, m in matches.items() if m}
        groups = Counter(patients.values())
        repeats = sum(n > 1 for n in groups.values())
        # Few groups are more likely kinds of images than patients; eight digits are often a date.
        enough = len(groups) > 2 * classes and repeats > 1 and repeats >= len(groups) / 50
        dates = sum(bool(re.search(r"(19|20)\d\d[01]\d[0-3]\d$", g)) for g in groups)
        if len(patients) < 0.95 * len(images) or not enough or dates > len(groups) / 2:
            continue
        seen: dict[str, set[str]] = {}
        for path, split in splits.items():
            if path in patients:
                seen.setdefault(patients[path], set()).add(split)
        if all(len(own) == 1 for own in seen.values()):
            what = "folders name patients" if inside else "image names begin alike"
            return PatientSource(None, text, f"{what} ({text}): {_count_text(groups)}")
    return PatientSource()


def _count_text(groups: Counter[str]) -> str:
    return f"{len(groups)} patients with {sum(groups.values())} images, at most {max(groups.values())} each"


def split_words(name: str) -> str:
    """A column's name split into words, so that `patient_age` and `PatientAge` both hold `age`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-./]+", " ", name).strip()


def modality_of(*texts: str) -> str:
    """The kind of image that the names point to; `other` when they do not."""
    text = " ".join(split_words(t) for t in texts)
    return next((kind for kind, words in MODALITIES.items() if words.search(text)), "other")
