"""What to say when the names of a table find no image: both spellings, and how they differ where that can be seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

import pyarrow as pa

from tasks.corpora.base import stem
from tasks.corpora.csv_table import CsvTable
from tasks.corpora.path_matching import PathMatcher

_LOOKED_AT = 200
_FLOAT = re.compile(r"(\d+)[.,]0+$")
_ROUNDED = re.compile(r"\d+(?:[.,]\d+)?E\+\d+$", re.IGNORECASE)


def nothing_found(table: CsvTable, column: str, names: pa.StringArray, paths: pa.StringArray) -> str:
    """The message where no row of a table names an image.

    Args:
        column: of the names.
        paths: of the images; at least one.
    """
    spellings = _Spellings(paths.to_pylist())
    hints = map(spellings.difference, names.slice(0, _LOOKED_AT).to_pylist())
    return _text(table, column, names[0].as_py(), paths[0].as_py(), next(filter(None, hints), ""))


def header_missing(table: CsvTable, matcher: PathMatcher) -> str:
    """The message where a table begins with an image's row, so that its first image would be lost; else ""."""
    # A column may be called like an image, but hardly with a file's suffix or a number first.
    names = [name for name in table.header if stem(name) != name or name[:1].isdigit()]
    hits = [name for name, path in zip(names, matcher.single(pa.array(names, pa.string())), strict=True) if path]
    if not hits:
        return ""
    return f"{table.name}: its first line names the image {hits[0]!r}; put a header with column names before it"


def meant_otherwise(table: CsvTable, paths: Sequence[str]) -> str:
    """The same message of a table in which no column names images, where one seems to be meant to; else "".

    Args:
        paths: of the images; at least one.
    """
    spellings = _Spellings(paths)
    for place, column in enumerate(table.header):
        names = table.columns[place].slice(0, _LOOKED_AT).to_pylist()
        hints = [spellings.difference(name) for name in names]
        # Labels repeat, and 1.0 among them may look like the image 1.png; rounded names repeat too.
        differ = 2 * len(set(names)) > len(names) or all(map(_ROUNDED.fullmatch, names))
        if len(names) > 1 and differ and 2 * sum(map(bool, hints)) > len(names):
            return _text(table, column, names[0], paths[0], next(filter(None, hints)))
    return ""


def _text(table: CsvTable, column: str, name: str, path: str, hint: str) -> str:
    text = (
        f"none of the {len(table)} rows of {table.name} names an image: the table has {name!r} "
        f"({table.where(0)}, column {column!r}), the folder has {path!r}"
    )
    return f"{text}; {hint}" if hint else text


class _Spellings:
    """Images by the names that a table may have made of theirs."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._bare = {stem(path).casefold(): path for path in paths}
        self._numbers = {key.lstrip("0"): path for key, path in self._bare.items() if key.isdigit()}

    def difference(self, name: str) -> str:
        """How a name differs from that of an image, and what to do; "" where that cannot be seen."""
        bare, numbers = self._bare, self._numbers
        last = stem(name.replace("\\", "/")).casefold()
        if (last in bare or name.casefold() in bare) and "/" in name.replace("\\", "/"):
            return (
                f"{name!r} and {bare[last]!r} have the same name in other folders: correct the folders of the table, "
                "or leave them out"
            )
        if _ROUNDED.fullmatch(name) and self._numbers:
            return f"{name!r} is a rounded number: a spreadsheet cut the names' digits; export the column as text"
        quoted = name.strip("'`\u2018\u2019\u201c\u201d")
        if quoted != name and stem(quoted).casefold() in bare:
            return f"{name!r} would be {bare[stem(quoted).casefold()]!r} without its quotes: take them out of the table"
        spaced = stem(unquote(name)).casefold()
        if spaced != stem(name).casefold() and spaced in bare:
            return f"{name!r} would be {bare[spaced]!r} with its %-codes decoded, as in addresses: decode the table"
        whole = _FLOAT.fullmatch(name)
        if whole and (path := bare.get(whole[1]) or numbers.get(whole[1].lstrip("0"))):
            return f"{name!r} would be {path!r} as a whole number: the numbers of the table became decimals"
        if name.isdigit() and (path := numbers.get(name.lstrip("0"))):
            return (
                f"{name!r} would be {path!r} with other leading zeros: read the column as text when you write the table"
            )
        return ""
