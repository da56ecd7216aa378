"""Rows in columns."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.corpora import scan
from tasks.corpora.scan import ROWS, Row, RowTable

ROW = st.builds(
    Row,
    path=st.none() | st.text(max_size=5),
    name=st.text(max_size=5),
    label=st.integers(-1, 70000),
    labels=st.none() | st.lists(st.integers(-1, 1), max_size=4).map(tuple),
    patient=st.text(max_size=5),
    eye=st.sampled_from(["", "left", "right"]),
    reason=st.text(max_size=5),
)


def table(rows: list[Row]) -> RowTable:
    return RowTable(pa.Table.from_pylist([asdict(row) for row in rows], ROWS))


@given(st.lists(ROW, max_size=9))
def test_rows_come_back_as_they_were_across_batches(rows: list[Row]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BATCH", 4)
        found = table(rows)
    assert list(found) == rows
    assert (len(found), found.table.schema) == (len(rows), ROWS)
    assert [found[i] for i in range(len(rows))] == rows


def test_an_index_may_count_from_the_end_and_not_beyond_it() -> None:
    found = table([Row("a", "a"), Row("b", "b")])
    assert found[-1].path == "b"
    with pytest.raises(IndexError):
        found[2]
