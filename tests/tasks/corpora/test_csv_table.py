"""CSV files as text."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import CorpusError
from tasks.corpora import csv_table
from tasks.corpora.base import stem, stems
from tasks.corpora.csv_table import coded, table_of, translated
from tasks.sources import Tree, open_source
from tests.tasks.corpora.layouts import csv


def read_table(path: Path) -> csv_table.CsvTable:
    return csv_table.read_table(Tree(open_source(path.parent)), path.name)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found_by_looking(tmp_path: Path, separator: str) -> None:
    path = csv(tmp_path / "a.csv", separator.join(("name", "x, y" if separator != "," else "x", "z")), [])
    assert len(read_table(path).header) == 3


def test_cells_stay_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "name,label", ["a,0", "b,0.0", "c,00", "d,NA", "e,1e3", "f"])
    values = [cells[1] for _, cells in read_table(path).cells(0, 1)]
    assert values == ["0", "0.0", "00", "NA", "1e3", ""]


def test_rows_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "name,label", ["a,0", "", '"b\nc",1', "d,2"])
    assert [where for where, _ in read_table(path).cells(0)] == ["a.csv line 2", "a.csv line 5", "a.csv line 6"]


def test_an_absent_column_is_reported_with_the_nearest(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path / "a.csv", "image,level", []))
    with pytest.raises(CorpusError, match=r"a\.csv: no column 'levels'; it has image, level; did you mean 'level'"):
        table.column("levels")


def test_a_column_is_found_in_any_case(tmp_path: Path) -> None:
    assert read_table(csv(tmp_path / "a.csv", " Image ,LEVEL", [])).column("level") == 1


def test_a_table_is_read_out_of_its_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("__MACOSX/._a.csv", "no")
        archive.writestr("a.csv", "image,level\n1_left,0\n")
    assert list(read_table(tmp_path / "a.csv").cells(0, 1)) == [("a.csv line 2", ("1_left", "0"))]


def test_a_broken_zip_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv.zip").write_bytes(b"PK nothing")
    with pytest.raises(CorpusError, match=r"a\.csv\.zip: not a zip archive"):
        read_table(tmp_path / "a.csv")


def test_an_absent_file_is_reported_with_the_nearest(tmp_path: Path) -> None:
    csv(tmp_path / "labels.csv", "a,b", [])
    with pytest.raises(CorpusError, match=r"label\.csv: no such file; did you mean labels\.csv"):
        read_table(tmp_path / "label.csv")


def test_a_quote_that_never_closes_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a\.csv line \d+: not CSV"):
        read_table(csv(tmp_path / "a.csv", "name,label", ['"a,0', "b,1"]))


def test_a_blank_first_line_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="first line is blank"):
        read_table(csv(tmp_path / "a.csv", "", ["a,1"]))


def test_old_encodings_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("name,label\nM\xfcller,1\n".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes("﻿x.png\r\n\r\ny.png".encode())
    assert read_table(tmp_path / "a.csv").texts("name").to_pylist() == ["M\xfcller"]
    assert csv_table.read_lines(Tree(open_source(tmp_path)), "b.txt") == ["x.png", "y.png"]


def test_a_table_of_another_name_is_read_out_of_the_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("testLabels.csv", "image,level\n1_left,0\n")
    assert list(read_table(tmp_path / "a.csv").cells(0, 1)) == [("a.csv line 2", ("1_left", "0"))]


def test_a_zip_without_a_table_is_reported(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(CorpusError, match=r"a\.csv\.zip: no CSV file in it"):
        read_table(tmp_path / "a.csv")


def test_lines_may_end_as_on_an_old_mac(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"name;label\ra;1\rb;2\r")
    assert list(read_table(tmp_path / "a.csv").cells(0, 1)) == [
        ("a.csv line 2", ("a", "1")),
        ("a.csv line 3", ("b", "2")),
    ]


def test_a_header_that_is_too_long_for_csv_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a\.csv line 1: not CSV: field larger than field limit"):
        read_table(csv(tmp_path / "a.csv", "x" * 200_000, []))


def test_a_large_table_is_held_as_text_not_as_lists(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "image,level", [f"{n}_left,{n % 5}" for n in range(200_000)])
    tree = Tree(open_source(tmp_path))
    tree.is_file(path.name)  # lists the folder
    tracemalloc.start()
    try:
        table = csv_table.read_table(tree, path.name)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 200_000
    # Lists of 200,000 rows hold more than 40 MB. Arrow's own memory is not Python's: 5 MB.
    assert held < 2e6
    assert most < 30e6


ROW = st.lists(st.text(" \xa0\tab", max_size=3), max_size=4)


@given(st.lists(ROW, max_size=9))
def test_cells_are_stripped_and_rows_as_wide_as_the_header_across_batches(rows: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "BATCH", 4)
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


def test_a_row_longer_than_the_header_is_an_error(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "image,label,patient", ["a,0,P1", "b,polyp, sessile,P2"])
    with pytest.raises(CorpusError, match=r"a\.csv line 3: 4 cells, but the header has 3; put cells .* in quotes"):
        read_table(path)


def test_blank_cells_beyond_the_header_are_no_cells(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "image,label", ["a,0,", "b,1, ,"])
    assert [cells for _, cells in read_table(path).cells(0, 1)] == [("a", "0"), ("b", "1")]


def test_a_blank_before_a_quote_leaves_the_quote_a_quote(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "image, label, patient", ['a, "polyp, sessile", P1', "b, normal, P2"])
    assert [cells for _, cells in read_table(path).cells(0, 1, 2)] == [
        ("a", "polyp, sessile", "P1"),
        ("b", "normal", "P2"),
    ]


def test_row_names_without_a_header_are_a_column_without_a_name(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path / "a.csv", '"image","label"', ['"1","a.png","0"', '"2","b.png","1"']))
    assert table.header == ["", "image", "label"]
    assert table.texts("image").to_pylist() == ["a.png", "b.png"]


def test_row_names_that_are_not_there_in_every_row_are_an_error(tmp_path: Path) -> None:
    rows = [*(f"{n},im{n}.png,0" for n in range(1200)), "im1200.png,1"]
    with pytest.raises(CorpusError, match=r"a\.csv line 1202: 2 cells, while the rows before it have 3"):
        read_table(csv(tmp_path / "a.csv", "image,label", rows))


def test_first_cells_that_come_again_are_no_row_names(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "label,image", ["0,x,a.png", "0,y,b.png"])
    with pytest.raises(CorpusError, match=r"a\.csv line 2: 3 cells, but the header has 2"):
        read_table(path)


def test_a_column_that_stands_twice_is_an_error_when_it_is_asked_for(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path / "a.csv", "image,label,Label,label", ["a,0,2,1"]))
    with pytest.raises(CorpusError, match=r"a\.csv: column 'label' stands 2 times in the header \(columns 2, 4\)"):
        table.column("label")
    assert table.column("image") == 0


def test_columns_that_differ_in_case_alone_need_the_exact_name(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path / "a.csv", "image,Label,LABEL", ["a,0,2"]))
    assert table.column("LABEL") == 2
    with pytest.raises(CorpusError, match=r"column 'label' stands 2 times"):
        table.column("label")


def test_a_header_among_the_rows_is_an_error(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "image,label", ["a,0", "image,label", "b,1"])
    with pytest.raises(CorpusError, match=r"a\.csv line 3: the header stands here once more"):
        read_table(path)


@pytest.mark.parametrize(("mark", "separator"), [("sep=;", ";"), ("sep=|", "|"), ("SEP=,", ",")])
def test_a_line_for_spreadsheets_names_the_separator(tmp_path: Path, mark: str, separator: str) -> None:
    lines = [separator.join(row) for row in (("image", "label"), ("a.png", "0"))]
    table = read_table(csv(tmp_path / "a.csv", mark, lines))
    assert table.header == ["image", "label"]
    assert list(table.cells(0, 1)) == [("a.csv line 3", ("a.png", "0"))]


def test_a_guess_of_the_encoding_stays_with_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("image,label\na.png,Geschwür\n".encode("cp1252"))
    (note,) = read_table(tmp_path / "a.csv").notes
    assert note.startswith("a.csv is not UTF-8; read as cp1252")
