"""Corrected labels: a CSV laid over the corpus, whose own files stay as they are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infra.digest import sha256_bytes
from infra.errors import CorpusError
from tasks.corpora.attributes import day
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import CsvTable, read_table
from tasks.corpora.scan import Scan
from tasks.ingest.image_table import ImageTable, place_in
from tasks.sources import Tree, open_source
from tasks.spec import CorpusSection

COLUMNS = ("key", "label", "who", "when")
NONE = "none"
"""In place of a label: none of the classes (multilabel)."""


@dataclass(frozen=True)
class _Correction:
    label: int
    labels: tuple[int, ...] | None
    who: str
    when: str
    row: int  # of the file


def correct(images: ImageTable, corpus: CorpusSection, scan: Scan) -> list[str]:
    """Set the labels of usable rows as `corpus.corrections` says; returns a note.

    Of several corrections of one image the last by date counts.

    Raises:
        CorpusError: no such file, a column that is absent, an image that the corpus does not have, a label that is none
            of the classes, a row without who or when, or two corrections of one day that differ.
    """
    if corpus.corrections is None:
        return []
    table = _table(corpus.corrections)
    rows, found = _rows(table, images), _last(table, scan)
    changed = 0
    for own in found.values():
        row = rows[own.row]
        before = int(images.numbers("label")[row]) if images.labels is None else tuple(images.labels[row].tolist())
        changed += before != (own.label if own.labels is None else own.labels)
        images.numbers("label")[row] = own.label
        if images.labels is not None:
            images.labels[row] = own.labels
        chosen = np.zeros(len(images), bool)
        chosen[row] = True
        by = "" if corpus.private else f" by {own.who} on {own.when}"
        images.set_text("reason", chosen & images.usable, f"label corrected{by}")
    who = len({own.who for own in found.values()})
    return [f"{len(found)} labels are corrections of {who} people; {changed} differ from the corpus"]


def digest_of_corrections(corpus: CorpusSection) -> str:
    """sha256 of the file, "" where there is none."""
    if corpus.corrections is None:
        return ""
    try:
        return sha256_bytes(Path(corpus.corrections).read_bytes())
    except OSError:
        return ""  # reading it for its labels says what is wrong


def _table(path: str) -> CsvTable:
    place = Path(path)
    if not place.is_file():
        raise CorpusError(f"corpus.corrections {path}: no such file")
    table = read_table(Tree(open_source(place.parent)), place.name)
    absent = [name for name in COLUMNS if name not in table.header]
    if absent:
        raise CorpusError(
            f"corpus.corrections {path}: no column {', '.join(absent)}; the columns {', '.join(COLUMNS)} are expected"
        )
    return table


def _rows(table: CsvTable, images: ImageTable) -> np.ndarray:
    """[rows of the file] int64: row of each image, named by its key or its path below corpus.root."""
    names = table.texts("key")
    found = place_in(names, images.text("key"))
    found = np.where(found >= 0, found, place_in(names, images.text("path")))
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        row = int(unknown[0])
        name = names[row].as_py()
        near = difflib.get_close_matches(name, images.text("key").to_pylist(), n=1, cutoff=0.8)
        hint = f"; did you mean {near[0]}?" if near else "; `stillroom inspect` shows keys"
        raise CorpusError(f"{table.where(row)}: the corpus has no image {name!r}{hint}")
    out = np.flatnonzero(~images.usable[found])
    if len(out):
        row = int(out[0])
        raise CorpusError(
            f"{table.where(row)}: image {names[row].as_py()!r} is not used: "
            f"{images.text('reason')[int(found[row])].as_py()}"
        )
    return found


def _last(table: CsvTable, scan: Scan) -> dict[str, _Correction]:
    """The last correction of each image."""
    numbered = scan.task != "multilabel" and all(name.isdigit() for name in scan.classes)
    coding = Coding(scan.task, scan.classes, numbered=numbered, negative=NONE)
    found: dict[str, _Correction] = {}
    for row, (where, (name, text, who, when)) in enumerate(table.cells(*map(table.column, COLUMNS))):
        date = day(when)
        if not who or date is None:
            raise CorpusError(
                f"{where}: who is {who!r} and when is {when!r}; a name and a date (2026-01-31) are expected"
            )
        try:
            label, labels = coding.code(text)
        except ValueError as error:
            raise CorpusError(f"{where}: {error}") from None
        own, before = _Correction(label, labels, who, date, row), found.get(name)
        if before and before.when == date and (before.label, before.labels) != (label, labels):
            raise CorpusError(f"{where} and {table.where(before.row)} correct {name!r} on one day to different labels")
        if before is None or before.when <= date:
            found[name] = own
    return found
