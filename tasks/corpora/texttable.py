"""A table of text in columns: a million rows are a few Arrow arrays, never a million Python lists."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.rowtable import BATCH


@dataclass(frozen=True, eq=False)
class Table:
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


def table_of(name: str, header: list[str], rows: Iterable[tuple[int, Sequence[str]]]) -> Table:
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
    return Table(name, header, [pa.concat_arrays(part) for part in parts], np.array(lines, np.int32))


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
