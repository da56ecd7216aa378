"""CSV files as text: no value is ever taken for a number, a date or a missing value."""

from __future__ import annotations

import csv
import difflib
import io
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.scan import BATCH
from tasks.sources import Tree

DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, eq=False)
class CsvTable:
    """A CSV file in memory; a row is a number from 0.

    Args:
        name: of the file, for messages.
        header: names of the columns, stripped.
        columns: one string array a name, of stripped cells; "" where a row is short.
        lines: int32, the line of the file on which each row ends.
    """

    name: str
    header: list[str]
    columns: list[pa.StringArray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> int:
        """Position of a column, matched exactly, else ignoring case and blanks at the ends.

        Raises:
            CorpusError: there is none; names the columns that there are and the nearest.
        """
        if name in self.header:
            return self.header.index(name)
        folded = [h.casefold() for h in self.header]
        if name.strip().casefold() in folded:
            return folded.index(name.strip().casefold())
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


def read_table(tree: Tree, path: str, delimiter: str | None = None) -> CsvTable:
    """Read a CSV file, or the first CSV inside `<path>.zip` when only that is there.

    Args:
        path: in the tree; an absolute one, or one that leaves the tree (`../labels.csv`), is a local file.
        delimiter: field separator; default the one of comma, semicolon and tab that splits the header most.

    Raises:
        CorpusError: no such file, no text, or no header.
    """
    data, shown = _bytes(tree, path), tree.show(path)
    encoding, errors = _encoding(data)
    text = io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline="")
    first = text.readline()
    if not first.strip():
        raise CorpusError(f"{shown}: the first line is blank; a header with column names is needed there")
    reader = None
    try:
        # strict: a quote that never closes must not silently swallow the rest of the file.
        reader = csv.reader(chain([first], text), delimiter=delimiter or _delimiter(first), strict=True)
        header = [cell.strip() for cell in next(reader)]
        rows = ((reader.line_num, row) for row in reader if "".join(row).strip())
        return table_of(path.rpartition("/")[2], header, rows)
    except csv.Error as error:
        raise CorpusError(f"{shown} line {reader.line_num if reader else 1}: not CSV: {error}") from None


def read_lines(tree: Tree, path: str) -> list[str]:
    """Non-blank lines of a text file, stripped."""
    data = _bytes(tree, path)
    return [line.strip() for line in data.decode(*_encoding(data)).splitlines() if line.strip()]


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
    """A table of rows as they come: (line, cells). Cells are stripped, those beyond the header are dropped."""
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


def _encoding(data: bytes) -> tuple[str, str]:
    """Encoding of a whole file, and what becomes of bytes that it does not have."""
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252", "replace"
    return "utf-8-sig", "strict"


def _delimiter(header: str) -> str:
    # max keeps the first of equals, so a file of one column reads with a comma.
    return max(DELIMITERS, key=lambda own: len(next(csv.reader([header.strip("\r\n")], delimiter=own))))


def _read(tree: Tree, path: str) -> bytes:
    if tree.is_file(path):
        return tree.read(path)
    packed = f"{path}.zip"
    if tree.is_file(packed):
        tables = [m for m in tree.members(packed) if m.lower().endswith(".csv") and "__MACOSX" not in m]
        if not tables:
            raise CorpusError(f"{tree.show(packed)}: no CSV file in it")
        return tree.read(tables[0])
    folder, _, name = path.rpartition("/")
    near = difflib.get_close_matches(name, tree.names(folder, most=1000), n=1, cutoff=0.3)
    raise CorpusError(f"{tree.show(path)}: no such file" + (f"; did you mean {near[0]}?" if near else ""))
