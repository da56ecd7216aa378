"""Labels of a table that may not simply become classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tests.tasks.corpora.tables import by_path, scan

AB = ["a.png", "b.png"]
ABC = [*AB, "c.png"]


@pytest.mark.parametrize("text", ["#N/A", "#REF!", "NaN", "null", "NA", "NaT"])
def test_a_sign_for_no_value_is_no_class(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorpusError, match=rf"labels '{text}' stand for no value; write corpus\.table\.unlabelled: \["):
        scan(tmp_path, ["a,x", f"b,{text}"], AB)


def test_a_number_below_zero_is_no_class_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r'labels \'-1\.0\' are below 0: .* corpus\.table\.unlabelled: \["-1\.0"\]'):
        scan(tmp_path, ["a,0.0", "b,1.0", "c,-1.0"], ABC)


def test_numbers_below_zero_are_classes_where_the_spec_names_them(tmp_path: Path) -> None:
    assert scan(tmp_path, ["a,-1", "b,1"], AB, classes=["-1", "1"]).classes == ("-1", "1")


def test_spellings_of_one_class_are_an_error_without_classes(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"labels 'Polyp', 'polyp' are spellings of one word .* corpus\.cl"):
        scan(tmp_path, ["a,Polyp", "b,polyp", "c,ulcer"], ABC)


def test_spellings_of_a_named_class_are_that_class_with_a_note(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,POLYP ", "b,polyp", "c,ulcer"], ABC, classes=["polyp", "ulcer"])
    assert [row.label for row in found.rows] == [0, 0, 1]
    assert found.notes == [
        "1 labels are other spellings of their class (case, blanks, form); first 'POLYP' for 'polyp'"
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1.0", "1"),
        ("01", "1"),
        ("\uff11", "1"),
        ("1,00", "1"),
        ("z\u2011line", "Z-line"),
        ("po\u00adlyp\u200b", "polyp"),
        ("No_Finding", "no finding"),
    ],
)
def test_other_forms_of_a_named_class_are_that_class(tmp_path: Path, text: str, name: str) -> None:
    found = scan(tmp_path, [f'a,"{text}"', "b,other"], AB, classes=[name, "other"])
    assert [row.label for row in found.rows] == [0, 1]


def test_numbers_that_differ_are_no_spellings(tmp_path: Path) -> None:
    assert scan(tmp_path, ["a,1", "b,1.5", "c,-1"], ABC, classes=["1", "1.5", "-1"]).notes == []


def test_classes_that_differ_in_case_alone_take_exact_labels_only_and_are_noted(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,T", "b,t", "c,x"], ABC, classes=["T", "t", "X"])
    assert [row.label for row in found.rows] == [0, 1, 2]
    assert found.notes[0] == "classes 'T', 't' are spellings of one word; each stays a class"


def test_words_have_no_order(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"ordinal needs the order of the grades, and 'mild', 'none' are words"):
        scan(tmp_path, ["a,none", "b,mild"], AB, task="ordinal")


def test_words_have_the_order_of_the_spec(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,none", "b,mild"], AB, task="ordinal", classes=["none", "mild"])
    assert [row.label for row in found.rows] == [0, 1]


def test_a_list_in_a_cell_needs_multilabel(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"is a list; set corpus\.task: multilabel"):
        scan(tmp_path, ["a,\"['x', 'y']\"", "b,['x']"], AB)


def test_a_list_in_a_cell_is_its_labels(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,\"['x', 'y']\"", 'b,"[""y""]"', "c,[]"], ABC, task="multilabel")
    assert found.classes == ("x", "y")
    assert [row.labels for row in found.rows] == [(1, 1), (0, 1), (0, 0)]


def test_columns_of_one_and_zero_are_one_label(tmp_path: Path) -> None:
    rows = ["a,1.0,0.0,0.0", "b,0,0,1", "c,,,"]
    found = scan(tmp_path, rows, ABC, header="name,MEL,NV,BCC", label=["MEL", "NV", "BCC"])
    assert found.classes == ("MEL", "NV", "BCC")
    assert [row.label for row in found.rows] == [0, 2, -1]


@pytest.mark.parametrize(("cells", "said"), [("1,1", "2 of the columns are 1"), ("0,0", "0 of the columns are 1")])
def test_columns_that_are_not_one_label_are_quarantined(tmp_path: Path, cells: str, said: str) -> None:
    found = scan(tmp_path, ["a,1,0", f"b,{cells}"], AB, header="name,MEL,NV", label=["MEL", "NV"])
    row = by_path(found)["b.png"]
    assert row.status == "quarantined"
    assert row.reason.startswith(f"labels.csv line 3: {said}; one is needed, or corpus.task: multilabel")


def test_columns_are_several_labels_with_unknown_ones(tmp_path: Path) -> None:
    rows = ["a,1.0,,0.0", "b,-1.0,1.0,"]
    found = scan(
        tmp_path,
        rows,
        AB,
        header="name,Edema,Mass,Nodule",
        label=["Edema", "Mass", "Nodule"],
        task="multilabel",
        unlabelled=["-1.0"],
    )
    assert [row.labels for row in found.rows] == [(1, -1, 0), (-1, 1, -1)]


def test_a_mark_that_is_neither_one_nor_zero_is_quarantined_with_what_to_set(tmp_path: Path) -> None:
    rows = ["a,1.0,0.0", "b,-1.0,1.0"]
    found = scan(tmp_path, rows, AB, header="name,Edema,Mass", label=["Edema", "Mass"], task="multilabel")
    assert by_path(found)["b.png"].reason == (
        "labels.csv line 3: '-1.0' in column 'Edema' is neither 1 nor 0; list it in corpus.table.unlabelled if it "
        "means not known"
    )


def test_rows_of_one_image_are_united_where_several_labels_are_allowed(tmp_path: Path) -> None:
    rows = ["a,Mass", "b,No finding", "a,Edema", "a,Mass"]
    found = scan(tmp_path, rows, AB, task="multilabel", negative="No finding")
    assert found.classes == ("Edema", "Mass")
    assert [row.labels for row in found.rows] == [(1, 1), (0, 0)]
    assert "1 images have several rows with other labels; their labels are united" in found.notes


def test_rows_of_one_image_that_disagree_are_quarantined_where_one_label_is_allowed(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,x", "b,y", "a,y"], AB)
    assert by_path(found)["a.png"].reason == "labels.csv line 2 and labels.csv line 4 disagree on its label ('x', 'y')"
