"""Any CSV beside a folder of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.spec import CorpusSection, TableSection
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.corpora.scans import scan_of
from tests.tasks.corpora.tables import by_path, scan
from tests.tasks.sources.packing import zip_of


def test_classes_are_the_labels_as_text(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,00", "b,1.50", "c,2.0"], ["a.png", "b.png", "c.png"])
    assert set(found.classes) == {"00", "1.50", "2.0"}


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    assert scan(tmp_path, ["a,10", "b,9"], ["a.png", "b.png"]).classes == ("9", "10")


def test_blank_and_listed_values_are_unlabelled(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a,", "b,-", "c,x"], ["a.png", "b.png", "c.png", "d.png"], unlabelled=["-"])
    assert found.classes == ("x",)
    assert {p: r.label for p, r in by_path(found).items()} == {"a.png": -1, "b.png": -1, "c.png": 0, "d.png": -1}


def test_names_with_dots_spaces_and_accents_find_their_files(tmp_path: Path) -> None:
    names = ["a.b.c.png", "with space.JPG", "Zoë.png"]
    found = scan(tmp_path, ["a.b.c,x", "with space,x", "zoë.png,x"], names)
    assert all(row.label == 0 for row in found.rows)


def test_the_patient_comes_from_a_column_or_from_the_name(tmp_path: Path) -> None:
    column = scan(tmp_path, ["a,x,7"], ["a.png"], header="name,label,who", patient="who")
    pattern = scan(tmp_path, ["12_a,x"], ["12_a.png"], patient_pattern=r"(\d+)_")
    assert by_path(column)["a.png"].patient == "7"
    assert by_path(pattern)["12_a.png"].patient == "12"


def test_images_without_a_patient_are_reported(tmp_path: Path) -> None:
    found = scan(tmp_path, ["1_a,x", "b,x"], ["1_a.png", "b.png"], patient_pattern=r"(\d+)_")
    assert found.notes == ["1 images have no patient; each counts as a patient of its own"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [(r"(\d+)-", "matches no image's name"), (r"\d+", "needs a group"), ("(", "patient_pattern")],
)
def test_a_pattern_that_cannot_be_right_is_reported(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        scan(tmp_path, ["1_a,x"], ["1_a.png"], patient_pattern=pattern)


def test_the_split_comes_from_a_column(tmp_path: Path) -> None:
    rows = ["a,x,Training", "b,x,valid", "c,x,test", "d,x,"]
    found = scan(tmp_path, rows, [f"{n}.png" for n in "abcd"], header="name,label,part", split="part")
    assert [r.split for r in found.rows] == ["train", "val", "test", ""]
    assert found.official == {"train", "val", "test"}


def test_an_unknown_split_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"labels\.csv line 2: split is 'fold1'"):
        scan(tmp_path, ["a,x,fold1"], ["a.png"], header="name,label,part", split="part")


def test_the_split_comes_from_lists(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("b.png\nnot-here.png\n")
    (tmp_path / "train.txt").write_text("a.png\n")
    found = scan(
        tmp_path, ["a,x", "b,x"], ["in/a.png", "in/b.png"], split_lists={"train": "train.txt", "test": "test.txt"}
    )
    assert {p: r.split for p, r in by_path(found).items()} == {"in/a.png": "train", "in/b.png": "test"}
    assert (found.official, found.notes) == ({"train", "test"}, ["1 of 2 names in test.txt have no image here"])


def test_an_image_in_two_lists_is_quarantined(tmp_path: Path) -> None:
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("a.png\n")
    found = scan(tmp_path, ["a,x", "b,x"], ["a.png", "b.png"], split_lists={"train": "train.txt", "test": "test.txt"})
    assert by_path(found)["a.png"].reason == "it stands in the lists of test and train"


def test_a_name_for_several_files_is_quarantined(tmp_path: Path) -> None:
    found = scan(tmp_path, ["v,x", "c,x"], ["p1/v.png", "p2/v.png", "c.png"])
    assert by_path(found)["p1/v.png"].reason.startswith("labels.csv line 2 names 2 files")
    assert [r.status for r in found.rows] == ["ok", "quarantined", "quarantined"]


def test_a_row_without_an_image_is_missing(tmp_path: Path) -> None:
    row = by_path(scan(tmp_path, ["a,x", "b,x"], ["a.png"]))["b"]
    assert (row.status, row.label, row.reason) == ("missing", 0, "labels.csv line 3: no such image")


def test_several_labels_an_image(tmp_path: Path) -> None:
    rows = ["a,Mass|Edema", "b,No Finding", "c,", "d,Edema"]
    found = scan(tmp_path, rows, [f"{n}.png" for n in "abcd"], task="multilabel", negative="No Finding")
    assert found.classes == ("Edema", "Mass")
    assert [(r.label, r.labels) for r in found.rows] == [(-1, (1, 1)), (-1, (0, 0)), (-1, (-1, -1)), (-1, (1, 0))]


def test_an_absent_column_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no column 'grade'; it has name, label"):
        scan(tmp_path, ["a,x"], ["a.png"], label="grade")


def test_a_blank_name_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"labels\.csv line 3: column 'name' is blank"):
        scan(tmp_path, ["a,x", ",y"], ["a.png"])


def test_a_folder_without_images_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no image in it"):
        scan(tmp_path, ["a,x"], [])


@pytest.mark.parametrize("kind", ["absolute", "climbing"])
def test_the_table_may_lie_outside_of_the_corpus(tmp_path: Path, kind: str) -> None:
    image(tmp_path / "c/images/a.png")
    csv(tmp_path / "labels.csv", "name,label", ["a,x"])
    place = str(tmp_path / "labels.csv") if kind == "absolute" else "../labels.csv"
    named = TableSection(csv=place, image="name", label="label")
    for root in (tmp_path / "c", zip_of(tmp_path / "c", tmp_path / "c.zip")):
        found = scan_of(CorpusSection(adapter="table", root=str(root), table=named))
        assert [(r.path, r.label) for r in found.rows] == [("images/a.png", 0)]


def test_a_table_and_its_images_are_found_in_the_folder_that_was_packed(tmp_path: Path) -> None:
    csv(tmp_path / "c/labels.csv", "name,label", ["a,x"])
    image(tmp_path / "c/images/a.png")
    named = TableSection(csv="labels.csv", images="images", image="name", label="label")
    root = zip_of(tmp_path / "c", tmp_path / "c.zip", within="corpus/")
    found = scan_of(CorpusSection(adapter="table", root=str(root), table=named))
    assert (found.below, [r.path for r in found.rows]) == ("corpus", ["images/a.png"])


@pytest.mark.parametrize(("modality", "crop"), [("fundus", "fundus"), ("endoscopy", "endoscopy"), ("xray", "none")])
def test_the_modality_decides_the_crop(tmp_path: Path, modality: str, crop: str) -> None:
    csv(tmp_path / "labels.csv", "name,label", ["a,x"])
    image(tmp_path / "a.png")
    named = TableSection(csv="labels.csv", image="name", label="label")
    section = CorpusSection(adapter="table", root=str(tmp_path), table=named, modality=modality)  # type: ignore[arg-type]
    assert scan_of(section).crop == crop
