"""From labels of tables to rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import CorpusError
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import table_of
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.table_labels import ABSENT, LabelsByName, TableLabels, labels_by_name

CODING = Coding("single", ("x", "y"))


def labels_of(rows: list[tuple[str, str]]) -> LabelsByName:
    """Of (name, label)."""
    table = table_of("t", ["name", "label"], [(line, row) for line, row in enumerate(rows, start=2)])
    return labels_by_name(table, table.texts("name"), table.texts("label"))


def settled(images: list[str], rows: list[tuple[str, str]]) -> RowBuilder:
    """Images and label rows, joined on the name."""
    found, named = RowBuilder(CODING), labels_of(rows)
    names = pa.array(images, pa.string())
    subject = named.subject(names)
    found.add(names, names, named.labels, subject)
    left = named.without_image(subject)
    found.add_missing(named.names.take(pa.array(left)), named.labels, left)
    return found


def expected(name: str, rows: list[tuple[str, str]], present: bool) -> tuple[str, int, str, str]:
    """(name, label, status, reason) of one image, the long way."""
    own = [(line, label) for line, (said, label) in enumerate(rows, start=2) if said == name]
    label, reason = -1, ""
    if own:
        line, text = own[0]
        other = next(((at, said) for at, said in own if said != text), None)
        if other:
            reason = f"t line {line} and t line {other[0]} disagree on its label ({text!r}, {other[1]!r})"
        elif text and text not in CODING.classes:
            reason = f"t line {line}: label {text!r} is outside the classes (x, y)"
        elif text:
            label = CODING.classes.index(text)
    if present:
        return name, label, "quarantined" if reason else "ok", reason
    return name, label, "missing", reason or f"t line {own[0][0]}: no such image"


@given(
    st.lists(st.sampled_from("abc"), unique=True, min_size=1),
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", "", "z"])), max_size=8),
)
def test_each_image_and_each_name_without_one_is_settled_by_its_own_rows(
    images: list[str], rows: list[tuple[str, str]]
) -> None:
    absent = [name for name in dict.fromkeys(name for name, _ in rows) if name not in images]
    wanted = [expected(name, rows, True) for name in images] + [expected(name, rows, False) for name in absent]
    found = settled([*images, "sure"], [*rows, ("sure", "x")]).finish()[0]
    got = [(row.name, row.label, row.status, row.reason) for row in found if row.name != "sure"]
    assert got == wanted


def test_what_people_should_hear_of_is_counted() -> None:
    rows = [("a", "x"), ("a", "x"), ("b", "z"), ("c", "q")]
    assert settled(["a", "b", "c"], rows).finish()[1] == [
        "1 images have more than one row, all alike; one is kept",
        "2 labels are outside the classes; first t line 4: label 'z' is outside the classes (x, y)",
    ]


def test_no_image_is_an_error() -> None:
    with pytest.raises(CorpusError, match="no image found, although there are 1 label rows"):
        settled([], [("a", "x")]).finish()


def test_a_refused_image_has_no_label_and_the_last_reason() -> None:
    rows, named = RowBuilder(CODING), labels_of([("a", "x"), ("b", "y")])
    names = pa.array(["a", "b"])
    refused = [(np.array([0]), pa.array(["first"])), (np.array([0]), pa.array(["last"]))]
    rows.add(names, names, named.labels, named.subject(names), refused=refused)
    found = [(row.label, row.status, row.reason) for row in rows.finish()[0]]
    assert found == [(-1, "quarantined", "last"), (1, "ok", "")]


def test_a_patient_that_is_given_goes_before_the_tables_and_a_split_after_them() -> None:
    table = table_of("t", ["name"], [(2, ["a"]), (3, ["b"])])
    columns = {"patient": pa.array(["p", "p"]), "split": pa.array(["train", ""])}
    labels = TableLabels(table, pa.array(["x", "x"]), np.array([0, 1]), 2, **columns)
    rows, names = RowBuilder(CODING), pa.array(["a", "b", "c"])
    own = {"patient": pa.array(["", "own", ""]), "split": pa.array(["test", "test", "test"])}
    rows.add(names, names, labels, np.array([0, 1, ABSENT]), **own)
    found = [(row.patient, row.split) for row in rows.finish()[0]]
    assert found == [("p", "train"), ("own", "test"), ("", "test")]


@pytest.mark.parametrize(
    ("what", "text"),
    [("patient", "t line 2 and t line 3 disagree on its patient"), ("split", "disagree on its split ('u', 'v')")],
)
def test_rows_that_disagree_are_reported_without_the_patient(what: str, text: str) -> None:
    table = table_of("t", ["name"], [(2, ["a"]), (3, ["a"])])
    labels = TableLabels(table, pa.array(["x", "x"]), np.array([0, 0]), 1, **{what: pa.array(["u", "v"])})
    assert labels.disagreement(0).endswith(text)


def test_rows_without_a_subject_say_nothing() -> None:
    table = table_of("t", ["name"], [(2, ["a"]), (3, ["b"])])
    labels = TableLabels(table, pa.array(["x", "y"]), np.array([ABSENT, 0]), 2)
    assert (labels.first.tolist(), labels.label_texts(np.array([0, 1, ABSENT]))) == ([1, ABSENT, ABSENT], {"y"})
