"""A layout of the adapter `folder` that says what a table made from folders says, where the folders are regular."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from tasks.corpora.folder import ANY_DEPTH, read_folders
from tasks.corpora.table import split_of_word
from tasks.spec import FolderSection

_NAMES = ("label", "patient", "split")


def layout_of(text: str) -> FolderSection | None:
    """`corpus.folder` for a table of `tasks.proposal.class_folders.from_folders`; None where it cannot say the same.

    Args:
        text: of the table, a CSV.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [name for name in _NAMES if name in rows[0]]
    parts = [row["image"].split("/")[:-1] for row in rows]
    depth = min(map(len, parts))
    places: dict[str, int] = {}
    for name in names:
        place = _level(parts, depth, [row[name] for row in rows], _split if name == "split" else str)
        if place is None or place in places.values():
            return None
        places[name] = place
    tokens = {place: f"{{{name}}}" for name, place in places.items()}
    folders = [tokens.get(level, "*") for level in range(max(tokens) + 1)]
    if any(len(own) > len(folders) for own in parts):
        folders.append(ANY_DEPTH)
    unlabelled = {own[places["label"]] for own, row in zip(parts, rows, strict=True) if not row["label"]}
    section = FolderSection(layout="/".join(folders), unlabelled=sorted(unlabelled))
    return section if _said(section, names, rows) == [[row[name] for name in names] for row in rows] else None


def _level(parts: list[list[str]], depth: int, wanted: list[str], read: Callable[[str], str]) -> int | None:
    """Number of the folder that says what is wanted of each image; the deepest, as those around may have like names."""
    for level in range(depth - 1, -1, -1):
        if all(not want or read(own[level]) == want for own, want in zip(parts, wanted, strict=True)):
            return level
    return None


def _said(section: FolderSection, names: list[str], rows: list[dict[str, str]]) -> list[list[str]]:
    """What a layout says of each image."""
    table = read_folders(section, [row["image"] for row in rows], "")
    columns = [table.texts(name).to_pylist() for name in names]
    for name, column in zip(names, columns, strict=True):
        if name == "label":
            column[:] = ["" if text in section.unlabelled else text for text in column]
        elif name == "split":
            column[:] = map(_split, column)
    return [list(own) for own in zip(*columns, strict=True)]


def _split(folder: str) -> str:
    return split_of_word(folder) or ""
