"""Which images are decided together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.data.catalog import CATALOG, COMBINED_CATALOG, with_attributes
from tasks.data.decision_units import default_unit, units_of


def rows(**columns: list[Any]) -> pa.Table:
    n = len(next(iter(columns.values())))
    given = {"key": [f"k{i}" for i in range(n)], **columns}
    table = pa.table(given, schema=pa.schema([COMBINED_CATALOG.field(name) for name in given]))
    return with_attributes(table)


EYES = {
    "patient": ["p", "p", "p", "q", ""],
    "exam": ["1", "1", "2", "1", ""],
    "eye": ["left", "right", "left", "left", "left"],
}


@pytest.mark.parametrize(
    ("unit", "count", "alone"), [("image", 5, 0), ("eye", 5, 1), ("exam", 4, 1), ("patient", 3, 1)]
)
def test_images_of_one_unit_are_together(unit: str, count: int, alone: int) -> None:
    found = units_of(rows(**EYES), unit)
    assert (len(found), found.alone) == (count, alone)


def test_exams_of_two_patients_may_have_one_number() -> None:
    found = units_of(rows(**EYES), "exam")
    assert found.place[0] == found.place[1] != found.place[2]
    assert found.place[0] != found.place[3]
    assert sorted(found.patient) == ["k4", "p", "p", "q"]


def test_an_eye_without_patient_or_exam_stands_for_itself() -> None:
    found = units_of(rows(eye=["left", "left"]), "eye")
    assert (len(found), found.alone) == (2, 2)


def test_exams_of_two_corpora_without_patients_are_told_apart() -> None:
    assert len(units_of(rows(exam=["1", "1"], corpus=["a", "b"]), "exam")) == 2
    assert len(units_of(rows(exam=["1", "1"], corpus=["a", "a"]), "exam")) == 1


def test_values_of_a_unit_are_the_largest_or_the_mean() -> None:
    found = units_of(rows(patient=["p", "q", "p"]), "patient")
    values = np.array([0.1, 0.5, 0.7])
    assert found.largest(values).tolist() == [0.7, 0.5]
    assert found.mean(values).tolist() == pytest.approx([0.4, 0.5])
    assert found.largest(np.array([False, False, True])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("columns", "unit"),
    [
        ({}, "image"),
        ({"patient": ["p", ""]}, "patient"),
        ({"patient": ["p", "p"], "exam": ["1", "2"]}, "exam"),
        ({"patient": ["p", "p"], "exam": ["1", ""]}, "patient"),
        ({"exam": ["1", ""]}, "exam"),
    ],
)
def test_the_visit_is_decided_for_where_it_is_known(columns: dict[str, list[str]], unit: str) -> None:
    assert default_unit(rows(key=["a", "b"], **columns)) == unit


def test_no_images_have_no_units() -> None:
    empty = with_attributes(pa.table({"key": []}, schema=pa.schema([CATALOG.field("key")])))
    assert len(units_of(empty, "patient")) == 0
