"""CSV files as text: no value is ever taken for a number, a date or a missing value."""

from __future__ import annotations

import csv
import difflib
import io
import os
from itertools import chain
from pathlib import Path

from infra.errors import CorpusError
from tasks.corpora.texttable import Table, table_of
from tasks.sources import Tree

DELIMITERS = (",", ";", "\t")


def read_table(tree: Tree, path: str, delimiter: str | None = None) -> Table:
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


__all__ = ["Table", "outside", "read_lines", "read_table", "table_exists", "table_of"]
