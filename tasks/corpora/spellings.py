"""What to say when the names of a table find no image: both spellings, and how they differ where that can be seen."""

from __future__ import annotations

import re

import pyarrow as pa

from tasks.corpora.base import stem
from tasks.corpora.csv_table import CsvTable

_LOOKED_AT = 200
_FLOAT = re.compile(r"(\d+)\.0+$")


def nothing_found(table: CsvTable, column: str, names: pa.StringArray, paths: pa.StringArray) -> str:
    """The message where no row of a table names an image.

    Args:
        column: of the names.
        paths: of the images; at least one.
    """
    first = names[0].as_py()
    text = (
        f"none of the {len(names)} rows of {table.name} names an image: the table has {first!r} "
        f"({table.where(0)}, column {column!r}), the folder has {paths[0].as_py()!r}"
    )
    hint = _difference(names.slice(0, _LOOKED_AT).to_pylist(), paths.to_pylist())
    return f"{text}; {hint}" if hint else text


def _difference(names: list[str], paths: list[str]) -> str:
    bare = {stem(path).casefold(): path for path in paths}
    numbers = {key.lstrip("0"): path for key, path in bare.items() if key.isdigit()}
    for name in names:
        last = stem(name.replace("\\", "/")).casefold()
        if (last in bare or name.casefold() in bare) and "/" in name.replace("\\", "/"):
            return (
                f"{name!r} and {bare[last]!r} have the same name in other folders: correct the folders of the table, "
                "or leave them out"
            )
        whole = _FLOAT.fullmatch(name)
        if whole and (path := bare.get(whole[1]) or numbers.get(whole[1].lstrip("0"))):
            return f"{name!r} would be {path!r} as a whole number: the numbers of the table became decimals"
        if name.isdigit() and (path := numbers.get(name.lstrip("0"))):
            return (
                f"{name!r} would be {path!r} with other leading zeros: read the column as text when you write the table"
            )
    return ""
