"""CSV files as text: no value is ever taken for a number, a date or a missing value."""

from __future__ import annotations

import csv
import difflib
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.scan import BATCH
from tasks.corpora.text_files import ENCODING, text_file
from tasks.sources import Tree
from tasks.sources.passed_over import HIDDEN

DELIMITERS = (",", ";", "\t", "|")
_HEAD = 1000
"""Rows that are looked at before it is decided whether the first column has a name."""


@dataclass(frozen=True, eq=False)
class CsvTable:
    """A CSV file in memory; a row is a number from 0.

    Args:
        name: of the file, for messages.
        header: names of the columns, stripped.
        columns: one string array a name, of stripped cells; "" where a row is short.
        lines: int32, the line of the file on which each row ends.
        notes: what was guessed when the file was read.
    """

    name: str
    header: list[str]
    columns: list[pa.StringArray]
    lines: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> int:
        """Position of a column, matched exactly, else ignoring case and blanks at the ends.

        Raises:
            CorpusError: there is none, and the columns that there are and the nearest are named; or there are several.
        """
        folded = [h.casefold() for h in self.header]
        for wanted, names in ((name, self.header), (name.strip().casefold(), folded)):
            if names.count(wanted) > 1:
                places = [str(n) for n, own in enumerate(names, 1) if own == wanted]
                raise CorpusError(
                    f"{self.name}: column {name!r} stands {len(places)} times in the header (columns "
                    f"{', '.join(places)}); give each a name of its own, so that it is clear which one counts"
                )
            if wanted in names:
                return names.index(wanted)
        near = difflib.get_close_matches(name, self.header, n=1, cutoff=0.0)
        raise CorpusError(
            f"{self.name}: no column {name!r}; it has {', '.join(h for h in self.header if h)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )

    def texts(self, name: str) -> pa.StringArray:
        """Cells of a column; errors as `column`."""
        return self.columns[self.column(name)]

    def where(self, row: int) -> str:
        """File and line of a row, for a message."""
        return f"{self.name} line {self.lines[row]}"

    def places(self, rows: np.ndarray) -> pa.StringArray:
        """`where` of many rows."""
        lines = pa.array(self.lines[rows]).cast(pa.string())
        return joined(f"{self.name} line ", lines)

    def cells(self, *columns: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(where, values) of each row, for small tables and looks at a column."""
        for start in range(0, len(self), BATCH):
            values = zip(*(self.columns[c].slice(start, BATCH).to_pylist() for c in columns), strict=True)
            for row, own in enumerate(values, start):
                yield self.where(row), own


def read_table(tree: Tree, path: str, delimiter: str | None = None, encoding: str | None = None) -> CsvTable:
    """Read a CSV file, or the first CSV inside `<path>.zip` when only that is there.

    A first line `sep=;`, as Excel writes it, names the separator. Where every row has one cell more than the header the
    first column has no name, as R writes row names.

    Args:
        path: in the tree; an absolute one, or one that leaves the tree (`../labels.csv`), is a local file.
        delimiter: field separator; default the one of comma, semicolon, tab and | that splits the header most.
        encoding: of the file; default by its byte order mark, else UTF-8, else a guess with a note.

    Raises:
        CorpusError: no such file, no text, no header, a header that stands again, or rows that are longer than it.
    """
    shown = tree.show(path)
    file = text_file(_bytes(tree, path), shown, encoding)
    text = file.open()
    first, before = text.readline(), 0
    if first.strip().casefold().startswith("sep=") and len(first.strip()) <= len("sep=") + 1:
        delimiter, before = delimiter or first.strip("\r\n ")[len("sep=") :] or "\t", 1
        first = text.readline()
    if not first.strip():
        raise CorpusError(f"{shown}: the first line is blank; a header with column names is needed there")
    reader = None
    try:
        # strict: a quote that never closes must not silently swallow the rest of the file. Without skipinitialspace a
        # blank before a quote would make the quote a part of the cell, and the commas inside it separators.
        reader = csv.reader(
            chain([first], text), delimiter=delimiter or _delimiter(first), strict=True, skipinitialspace=True
        )
        header = [cell.strip() for cell in next(reader)]
        rows = _Rows(((reader.line_num + before, row) for row in reader if "".join(row).strip()), header, shown)
        table = table_of(path.rpartition("/")[2], rows.header, rows)
    except csv.Error as error:
        raise CorpusError(f"{shown} line {(reader.line_num if reader else 1) + before}: not CSV: {error}") from None
    if not file.guessed:
        return table
    note = f"{table.name} is not UTF-8; read as {file.encoding}, which is a guess: look at its names, or set {ENCODING}"
    return replace(table, notes=(note,))


class _Rows:
    """Rows of a file that fit its header.

    Args:
        rows: (line, cells) in the file's order.

    Attributes:
        header: with a column without a name before it, where the rows have one cell more.
    """

    def __init__(self, rows: Iterator[tuple[int, list[str]]], header: list[str], shown: str) -> None:
        self._shown, self._given = shown, header
        head = list(islice(rows, _HEAD))
        # Row names differ from each other; a cell that an unquoted comma has cut would not be at the row's beginning.
        longer = bool(head) and all(len(row) == len(header) + 1 and row[-1].strip() for _, row in head)
        names = {row[0].strip() for _, row in head}
        self.header = ["", *header] if longer and len(names) == len(head) else header
        self._rows = chain(head, rows)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.header)
        for line, row in self._rows:
            if len(row) > width and "".join(row[width:]).strip():
                raise CorpusError(
                    f"{self._shown} line {line}: {len(row)} cells, but the header has {len(self._given)}; "
                    "put cells that hold a separator in quotes"
                )
            if width > len(self._given) and len(row) < width:
                raise CorpusError(
                    f"{self._shown} line {line}: {len(row)} cells, while the rows before it have {width}, one more "
                    "than the header; name the first column in the header"
                )
            if len(row) == len(self._given) and [cell.strip() for cell in row] == self._given:
                raise CorpusError(
                    f"{self._shown} line {line}: the header stands here once more; are these two tables in one file?"
                )
            yield line, row


def read_lines(tree: Tree, path: str, encoding: str | None = None) -> list[str]:
    """Non-blank lines of a text file, stripped; errors as `read_table`."""
    return [line for _, line in numbered_lines(tree, path, encoding)]


def numbered_lines(tree: Tree, path: str, encoding: str | None = None) -> list[tuple[int, str]]:
    """`read_lines` with the number of each line, from 1."""
    text = text_file(_bytes(tree, path), tree.show(path), encoding).text()
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def table_exists(tree: Tree, path: str) -> bool:
    """Whether `read_table` would find a file."""
    local = outside(tree, path)
    return local.is_file() if local else tree.is_file(path) or tree.is_file(f"{path}.zip")


def outside(tree: Tree, path: str) -> Path | None:
    """The local file that a path means when it is absolute or leaves the tree; None when it lies in the tree."""
    if os.path.isabs(path):
        return Path(path)
    if os.path.normpath(path).startswith("..") and "://" not in tree.source.url:
        return Path(os.path.normpath(os.path.join(tree.source.url, tree.below, path)))
    return None


def table_of(name: str, header: list[str], rows: Iterable[tuple[int, Sequence[str]]]) -> CsvTable:
    """A table of rows as they come: (line, cells). Cells are stripped; blank ones beyond the header are dropped."""
    lines, width = array("i"), len(header)
    parts: list[list[pa.StringArray]] = [[pa.array([], pa.string())] for _ in header]
    rows = iter(rows)
    while True:
        # One flat list: a list kept for each row would have the garbage collector walk all of them over and over.
        cells: list[str] = []
        for line, row in islice(rows, BATCH):
            lines.append(line)
            cells.extend(row if len(row) == width else [*row, *[""] * width][:width])
        if not cells:
            break
        for column, part in enumerate(parts):
            part.append(pa.array([cell.strip() for cell in cells[column::width]], pa.string()))
    return CsvTable(name, header, [pa.concat_arrays(part) for part in parts], np.array(lines, np.int32))


@dataclass(frozen=True)
class Coded:
    """Texts by number.

    Args:
        codes: int32, for each text its number.
        texts: each text once, by its number: in the order in which they first stand.
    """

    codes: np.ndarray
    texts: pa.StringArray


def coded(texts: pa.StringArray) -> Coded:
    """Number texts, so that what depends on a text alone is worked out once for each."""
    encoded = texts.dictionary_encode()
    return Coded(encoded.indices.to_numpy(), encoded.dictionary)


def translated(texts: pa.StringArray, to: Callable[[str], str | None]) -> pa.StringArray:
    """Each text as `to` has it, which is asked once for each distinct one; null for None."""
    found = coded(texts)
    return pa.array([to(text) for text in found.texts.to_pylist()], pa.string()).take(pa.array(found.codes))


def joined(*texts: pa.StringArray | str) -> pa.StringArray:
    """Texts one after the other, row by row; at least one is an array."""
    return pc.binary_join_element_wise(*texts, "")


def _bytes(tree: Tree, path: str) -> bytes:
    local = outside(tree, path)
    return local.read_bytes() if local else _read(tree, path)


def _delimiter(header: str) -> str:
    # max keeps the first of equals, so a file of one column reads with a comma.
    return max(DELIMITERS, key=lambda own: len(next(csv.reader([header.strip("\r\n")], delimiter=own))))


def _read(tree: Tree, path: str) -> bytes:
    if tree.is_file(path):
        return tree.read(path)
    packed = f"{path}.zip"
    if tree.is_file(packed):
        tables = [m for m in tree.members(packed) if m.lower().endswith(".csv") and not re.search(HIDDEN, m)]
        if not tables:
            raise CorpusError(f"{tree.show(packed)}: no CSV file in it")
        return tree.read(tables[0])
    folder, _, name = path.rpartition("/")
    near = difflib.get_close_matches(name, tree.names(folder, most=1000), n=1, cutoff=0.3)
    raise CorpusError(f"{tree.show(path)}: no such file" + (f"; did you mean {near[0]}?" if near else ""))
