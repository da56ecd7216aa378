"""CSV files as text: no value is ever taken for a number, a date or a missing value."""

from __future__ import annotations

import csv
import difflib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.errors import CorpusError

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
        for line, row in self.rows:
            yield f"{self.name} line {line}", tuple(row[c] if c < len(row) else "" for c in columns)


def read_table(path: Path, delimiter: str | None = None) -> Table:
    """Read a CSV file, or the first CSV inside `<path>.zip` when only that is there.

    Args:
        delimiter: field separator; default the one of comma, semicolon and tab that splits the header most.

    Raises:
        CorpusError: no such file, no text, or no header.
    """
    text = _text(path)
    first = text.split("\n", 1)[0].strip("\r")
    if not first.strip():
        raise CorpusError(f"{path}: the first line is blank; a header with column names is needed there")
    # max keeps the first of equals, so a file of one column reads with a comma.
    delimiter = delimiter or max(DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d))))
    # strict: a quote that never closes must not silently swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
        rows = [(reader.line_num, [c.strip() for c in row]) for row in reader if any(c.strip() for c in row)]
    except csv.Error as error:
        raise CorpusError(f"{path} line {reader.line_num}: not CSV: {error}") from None
    return Table(path.name, header, rows)


def read_lines(path: Path) -> list[str]:
    """Non-blank lines of a text file, stripped."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def table_exists(path: Path) -> bool:
    """Whether `read_table` would find a file."""
    return path.is_file() or path.with_name(path.name + ".zip").is_file()


def _text(path: Path) -> str:
    packed = path.with_name(path.name + ".zip")
    if path.is_file():
        data = path.read_bytes()
    elif packed.is_file():
        data = _unzip(packed)
    else:
        here = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, here, n=1, cutoff=0.3)
        raise CorpusError(f"{path}: no such file" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _unzip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(".csv") and "__MACOSX" not in n]
            if not names:
                raise CorpusError(f"{path}: no CSV file in it")
            return archive.read(names[0])
    except zipfile.BadZipFile as error:
        raise CorpusError(f"{path}: not a zip archive ({error}); download it again") from None
