"""Excel workbooks as tables of text."""

from __future__ import annotations

import datetime
import io

from python_calamine import CalamineError, CalamineWorkbook

from infra.errors import CorpusError
from tasks.corpora.csv_table import CsvTable, table_of
from tasks.sources import Tree

_Cell = int | float | str | bool | datetime.date | datetime.time | datetime.timedelta


def read_workbook(tree: Tree, path: str, sheet: str | None = None) -> CsvTable:
    """Read a sheet of a workbook (.xls, .xlsx, .ods); a row's line is its number in the sheet.

    Args:
        sheet: its name; default the only one that is not empty.

    Raises:
        CorpusError: no such file, no workbook, no such sheet, or more than one that could be meant.
    """
    shown = tree.show(path)
    if not tree.is_file(path):
        raise CorpusError(f"{shown}: no such file")
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(tree.read(path)))
        cells = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}
    except CalamineError as error:
        raise CorpusError(f"{shown}: no workbook that can be read ({error}); save it again") from None
    except BaseException as error:
        # The reader is written in Rust, and what it did not foresee arrives as a PanicException, no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise CorpusError(f"{shown}: a damaged workbook; download it again") from None
    filled = {name: rows for name, rows in cells.items() if any(map(any, rows))}
    if sheet is not None and sheet not in filled:
        raise CorpusError(f"{shown}: no sheet {sheet!r} with cells; it has {', '.join(filled) or 'none'}")
    if sheet is None and len(filled) != 1:
        raise CorpusError(f"{shown}: one sheet with cells is expected; it has {', '.join(filled) or 'none'}")
    rows = filled[sheet] if sheet is not None else next(iter(filled.values()))
    texts = [[_text(cell) for cell in row] for row in rows]
    header = [cell.strip() for cell in texts[0]]
    return table_of(path.rpartition("/")[2], header, ((line, row) for line, row in enumerate(texts[1:], 2) if any(row)))


def _text(cell: _Cell) -> str:
    """A cell as a CSV would have it: whole numbers without a point."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
