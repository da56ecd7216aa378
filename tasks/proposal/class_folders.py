"""A table made from folders: one for each class, with patients, studies and splits around or in it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

from infra.errors import CorpusError
from tasks.corpora.csv_table import CsvTable, table_of
from tasks.corpora.table import WORDS
from tasks.proposal.columns import MOST_CLASSES
from tasks.sources import Tree

POOL = re.compile(r"unlabel|unlabell|pool|ungraded|unknown", re.I)
_PATIENT = re.compile(r"(?:patient|subject|subj|sub|case|pat|pt|person)[ _-]?\d+", re.I)
_STUDY = re.compile(
    r"(?:study|series|visit|session|ses|scan|exam|acquisition|slice|frame|view|s|v|t)[ _-]?\d+|left|right|od|os|l|r",
    re.I,
)
ADVICE = "Write a CSV with the columns image,label beside them (blank label: unlabelled), then run init again"


def from_folders(tree: Tree, images: Sequence[str], reasons: Sequence[str]) -> tuple[CsvTable, str]:
    """A table and its text: image, label and, where there are such, patient and split.

    Args:
        images: their paths.
        reasons: why no table of the folder is used, for the message.

    Raises:
        CorpusError: the folders are no classes.
    """
    below = _without_common({path: path.split("/")[:-1] for path in images})
    splits, below = _splits(below)
    below = _without_studies(_without_last(below))
    label_of, patients = _roles(below)
    label = {p: "" if any(POOL.search(part) for part in below[p]) else label_of[p] for p in images}
    counts = Counter(name for name in label.values() if name)
    if not 2 <= len(counts) <= MOST_CLASSES or sum(n > 1 for n in counts.values()) < 2:
        why = "; ".join(reasons) or "no CSV whose rows name them, and not one folder for each class"
        raise CorpusError(f"{tree.show()}: {len(images)} images, but {why}. {ADVICE}")
    if all(_PATIENT.fullmatch(name) for name in counts):
        raise CorpusError(
            f"{tree.show()}: the folders are patients ({min(counts)}, ...), and none is a class. {ADVICE}"
        )
    header = ["image", "label"] + ["patient"] * bool(patients) + ["split"] * bool(splits)
    rows = [
        [p, label[p]] + ([patients[p]] if patients else []) + ([splits[p]] if splits else []) for p in sorted(images)
    ]
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([header, *rows])
    return table_of("labels", header, enumerate(rows, start=2)), sink.getvalue()


_Parts = dict[str, list[str]]


def _splits(below: _Parts) -> tuple[dict[str, str], _Parts]:
    """Split by path where the outer folders are splits and pools, and the folders below them."""
    split_of = {word: split for split, known in WORDS.items() for word in known}
    tops = {own[0] for own in below.values() if own}
    if not tops or tops > {top for top in tops if top.casefold() in split_of or POOL.search(top)}:
        return {}, below
    splits = {path: split_of.get(own[0].casefold(), "") if own else "" for path, own in below.items()}
    return splits, {path: own if own and POOL.search(own[0]) else own[1:] for path, own in below.items()}


def _roles(below: _Parts) -> tuple[dict[str, str], dict[str, str]]:
    """Label by path, and patient by path where a level of folders is patients: all names have digits, and are many."""
    deepest = {path: own[-1] if own else "" for path, own in below.items()}
    depths = {len(own) for own in below.values()}
    if len(depths) == 1 and depths > {1}:
        levels = [{path: own[depth] for path, own in below.items()} for depth in range(min(depths))]
    else:
        levels = [{path: own[0] if own else "" for path, own in below.items()}, deepest]
    many = max(levels, key=lambda level: len(set(level.values())))
    others = [level for level in levels if level is not many]
    numbered = all(re.search(r"\d", name) for name in many.values())
    if not others or not numbered or min(len(set(level.values())) for level in others) >= len(set(many.values())) / 2:
        return deepest, {}
    words = [level for level in others if not all(re.search(r"\d", name) for name in level.values())]
    return (words or others)[-1], many


def _without_common(parts: _Parts) -> _Parts:
    """Folder names without those that all images share (archives often hold one folder in another)."""
    depth = 0
    for level in zip(*parts.values(), strict=False):
        if len(set(level)) > 1:
            break
        depth += 1
    return {path: own[depth:] for path, own in parts.items()}


def _without_last(below: _Parts) -> _Parts:
    """Folder names without the last ones that all images share, such as `images` within each class."""
    while all(len(own) > 1 for own in below.values()) and len({own[-1] for own in below.values()}) == 1:
        below = {path: own[:-1] for path, own in below.items()}
    return below


def _without_studies(below: _Parts) -> _Parts:
    """Folder names without inner ones that are studies, views or sides of a patient."""
    found = {}
    for path, own in below.items():
        last = len(own)
        while last > 1 and _STUDY.fullmatch(own[last - 1]):
            last -= 1
        found[path] = own[:last]
    return found
