"""Attributes in one spelling, and what is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.corpora.attributes import age, day, eye, gradable, projection, sex
from tests.tasks.corpora.tables import scan


@pytest.mark.parametrize(
    ("text", "years"),
    [("68", "68"), ("058Y", "58"), ("6 months", "0.5"), ("006M", "0.5"), ("0", "0"), ("411Y", None), ("abc", None)],
)
def test_ages_are_years(text: str, years: str | None) -> None:
    assert age(text) == years


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("20051019", "2005-10-19"),
        ("2005-10-19", "2005-10-19"),
        ("2005/10/19", "2005-10-19"),
        ("2005-10-19 08:30:00", "2005-10-19"),
        ("2005", "2005"),
        ("200510", "2005-10"),
        ("20051340", None),
        ("19/10/2005", None),
    ],
)
def test_dates_begin_with_the_year_and_no_other_order_is_guessed(text: str, iso: str | None) -> None:
    assert day(text) == iso


def test_words_have_one_spelling() -> None:
    assert [sex(t) for t in ("F", "Female", "male", "Unknown")] == ["female", "female", "male", None]
    assert [eye(t) for t in ("OD", "left", "R", "both")] == ["right", "left", "right", None]
    assert [projection(t) for t in ("ap", "PA", "LL", "Frontal", "oblique")] == ["AP", "PA", "lateral", "frontal", None]
    assert [gradable(t) for t in ("1", "0.0", "yes", "maybe")] == ["yes", "no", "yes", None]


def test_a_table_gives_attributes(tmp_path: Path) -> None:
    found = scan(
        tmp_path,
        ["a,0,North,61,M", "b,1,South,unknown,F"],
        ["a.png", "b.png", "c.png"],
        header="name,label,Hospital,Age,Gender",
        attributes={"site": "Hospital", "age": "Age", "sex": "Gender"},
    )
    rows = {row.name: (row.site, row.age, row.sex) for row in found.rows}
    assert rows == {"a": ("North", "61", "male"), "b": ("South", "", "female"), "c": ("", "", "")}
    assert found.notes == []


def test_cells_that_are_not_understood_are_counted_and_left_blank(tmp_path: Path) -> None:
    rows = ["a,0,61", "b,1,old", "c,1,very old"]
    found = scan(tmp_path, rows, ["a.png", "b.png", "c.png"], header="name,label,Age", attributes={"age": "Age"})
    assert [row.age for row in found.rows] == ["61", "", ""]
    assert found.notes == [
        "2 cells of column 'Age' are not understood as age and left blank; first 'old' at labels.csv line 3"
    ]


def test_rows_that_disagree_on_an_attribute_are_quarantined(tmp_path: Path) -> None:
    rows = ["a,0,left", "a,0,right", "b,1,left"]
    found = scan(tmp_path, rows, ["a.png", "b.png"], header="name,label,Eye", attributes={"eye": "Eye"})
    by_name = {row.name: row for row in found.rows}
    assert by_name["a"].reason == "labels.csv line 2 and labels.csv line 3 disagree on its eye ('left', 'right')"
