"""CSV files as text: no value is ever taken for a number, a date or a missing value."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.errors import CorpusError
from tasks.sources import Tree

DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Table:
    """A CSV file in memory; cells are stripped text."""

    name: str
    header: list[str]
    rows: list[tuple[int, list[str]]]  # (line in the file, cells)

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

    def cells(self, *columns: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(where, values) of each row; `where` names file and line, short rows give blanks."""
        most, name = max(columns), self.name
        for line, row in self.rows:
            if len(row) <= most:
                row = [*row, *[""] * (most + 1 - len(row))]  # noqa: PLW2901 - the table keeps its own
            yield f"{name} line {line}", tuple([row[c] for c in columns])


def read_table(tree: Tree, path: str, delimiter: str | None = None) -> Table:
    """Read a CSV file, or the first CSV inside `<path>.zip` when only that is there.

    Args:
        path: in the tree; an absolute one, or one that leaves the tree (`../labels.csv`), is a local file.
        delimiter: field separator; default the one of comma, semicolon and tab that splits the header most.

    Raises:
        CorpusError: no such file, no text, or no header.
    """
    text, shown = _text(tree, path), tree.show(path)
    first = text.split("\n", 1)[0].strip("\r")
    if not first.strip():
        raise CorpusError(f"{shown}: the first line is blank; a header with column names is needed there")
    # max keeps the first of equals, so a file of one column reads with a comma.
    delimiter = delimiter or max(DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d))))
    # strict: a quote that never closes must not silently swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
        read = ((reader.line_num, [c.strip() for c in row]) for row in reader)
        rows = [row for row in read if any(row[1])]
    except csv.Error as error:
        raise CorpusError(f"{shown} line {reader.line_num}: not CSV: {error}") from None
    return Table(path.rpartition("/")[2], header, rows)


def read_lines(tree: Tree, path: str) -> list[str]:
    """Non-blank lines of a text file, stripped."""
    return [line.strip() for line in _text(tree, path).splitlines() if line.strip()]


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


def _text(tree: Tree, path: str) -> str:
    local = outside(tree, path)
    data = local.read_bytes() if local else _read(tree, path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


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
