"""Tables of text in columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.corpora import texttable
from tasks.corpora.base import stem, stems
from tasks.corpora.texttable import coded, table_of, translated

ROW = st.lists(st.text(" \xa0\tab", max_size=3), max_size=4)


@given(st.lists(ROW, max_size=9))
def test_cells_are_stripped_and_rows_as_wide_as_the_header_across_batches(rows: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texttable, "BATCH", 4)
        table = table_of("t.csv", ["x", "y"], enumerate(rows, start=2))
        cells = list(table.cells(0, 1))
    wide = [tuple(cell.strip() for cell in [*row, "", ""][:2]) for row in rows]
    assert cells == [(f"t.csv line {line}", own) for line, own in enumerate(wide, start=2)]


def test_rows_are_named_one_by_one_and_together() -> None:
    table = table_of("t.csv", ["x"], [(2, ["a"]), (5, ["b"]), (9, ["c"])])
    rows = np.array([2, 0])
    assert table.places(rows).to_pylist() == [table.where(row) for row in rows] == ["t.csv line 9", "t.csv line 2"]


def test_texts_are_numbered_in_the_order_in_which_they_first_stand() -> None:
    found = coded(pa.array(["b", "a", "b", ""]))
    assert (found.codes.tolist(), found.texts.to_pylist()) == ([0, 1, 0, 2], ["b", "a", ""])


def test_a_text_is_translated_once_however_often_it_stands() -> None:
    asked: list[str] = []

    def upper(text: str) -> str | None:
        asked.append(text)
        return text.upper() or None

    assert translated(pa.array(["b", "", "b"]), upper).to_pylist() == ["B", None, "B"]
    assert asked == ["b", ""]


NAME = st.lists(
    st.sampled_from(["a", "A.b", ".", "/", ".png", ".JPeG", ".tiff", ".tifx", "\n", "é", "\u0130", "\u017f"]),
    max_size=6,
)


@given(st.lists(NAME.map("".join), max_size=6))
def test_stems_of_many_names_are_those_of_each(names: list[str]) -> None:
    assert stems(pa.array(names, pa.string())).to_pylist() == [stem(name) for name in names]
