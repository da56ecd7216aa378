"""EyePACS in its own layout."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import csv, eyepacs, image, solution
from tests.tasks.corpora.scans import scan_of


def scan(root: Path, **rest: object) -> Scan:
    return scan_of(CorpusSection(adapter="eyepacs", root=root, **rest))  # type: ignore[arg-type]


def by_name(found: Scan) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def test_patient_eye_and_grade_are_read(tmp_path: Path) -> None:
    found = scan(eyepacs(tmp_path, {"10_left": 0, "10_right": 4}))
    row = by_name(found)["10_right"]
    assert (row.path, row.patient, row.eye, row.label, row.split) == ("train/10_right.jpeg", "10", "right", 4, "")
    assert (found.task, found.classes, found.modality, found.size) == ("ordinal", tuple("01234"), "fundus", 1024)


def test_images_without_a_row_are_the_unlabelled_pool(tmp_path: Path) -> None:
    row = by_name(scan(eyepacs(tmp_path, {"1_left": 0}, pool=["1_right"])))["1_right"]
    assert (row.label, row.status, row.patient) == (-1, "ok", "1")


def test_any_image_suffix_in_any_case_is_taken_and_mac_leftovers_are_not(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0, "2_left": 1, "3_left": 2})
    (tmp_path / "train/2_left.jpeg").rename(tmp_path / "train/2_left.JPG")
    image(tmp_path / "train/3_left.png")
    (tmp_path / "train/3_left.jpeg").unlink()
    (tmp_path / "train/._1_left.jpeg").write_bytes(b"mac")
    assert sorted(r.path or "" for r in scan(tmp_path).rows) == [
        "train/1_left.jpeg",
        "train/2_left.JPG",
        "train/3_left.png",
    ]


def test_the_solution_gives_the_official_split(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0})
    found = scan(solution(tmp_path, {"7_left": (1, "Public"), "8_left": (2, "Private")}))
    assert {n: (r.split, r.label) for n, r in by_name(found).items()} == {
        "1_left": ("train", 0),
        "7_left": ("val", 1),
        "8_left": ("test", 2),
    }
    assert found.official == {"train", "val", "test"}


def test_without_the_solution_test_is_unlabelled(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0})
    image(tmp_path / "test/7_left.jpeg")
    found = scan(tmp_path)
    assert (by_name(found)["7_left"].label, found.official) == (-1, frozenset())
    assert "images of test/ are unlabelled" in found.notes[0]


def test_28000_label_rows_without_an_image_are_counted(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0})
    rows = ["1_left,0", *(f"{n}_left,{n % 5}" for n in range(2, 28002))]
    csv(tmp_path / "trainLabels.csv", "image,level", rows)
    missing = [r for r in scan(tmp_path).rows if r.status == "missing"]
    assert len(missing) == 28000
    assert missing[0].reason == "trainLabels.csv line 3: no such image"


def test_labels_are_read_out_of_the_zip(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 3})
    with zipfile.ZipFile(tmp_path / "trainLabels.csv.zip", "w") as archive:
        archive.write(tmp_path / "trainLabels.csv", "trainLabels.csv")
    (tmp_path / "trainLabels.csv").unlink()
    assert by_name(scan(tmp_path))["1_left"].label == 3


def test_a_label_outside_the_classes_is_quarantined(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0, "2_left": 7})
    row = by_name(scan(tmp_path))["2_left"]
    assert row.status == "quarantined"
    assert row.reason == "trainLabels.csv line 3: label '7' is outside the classes (0 to 4)"


def test_grades_that_a_data_frame_wrote_as_decimals_are_grades(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0, "2_left": 3})
    csv(tmp_path / "trainLabels.csv", "image,level", ["1_left,0.0", "2_left,3.0"])
    assert {name: row.label for name, row in by_name(scan(tmp_path)).items()} == {"1_left": 0, "2_left": 3}


def test_labels_that_are_all_outside_the_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"not one of 2 labels .* trainLabels.csv line 2: label '8'"):
        scan(eyepacs(tmp_path, {"1_left": 8, "2_left": 9}))


def test_equal_rows_for_one_image_are_one(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 2})
    csv(tmp_path / "trainLabels.csv", "image,level", ["1_left,2", "1_left,2"])
    found = scan(tmp_path)
    assert [r.label for r in found.rows] == [2]
    assert found.notes == ["1 images have more than one row, all alike; one is kept"]


def test_rows_that_disagree_quarantine_their_image(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 2, "2_left": 0})
    csv(tmp_path / "trainLabels.csv", "image,level", ["1_left,2", "2_left,0", "1_left,3"])
    row = by_name(scan(tmp_path))["1_left"]
    assert (row.status, row.label) == ("quarantined", -1)
    assert row.reason == "trainLabels.csv line 2 and trainLabels.csv line 4 disagree on its label ('2', '3')"


def test_two_files_of_one_name_are_not_both_labelled(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 2})
    image(tmp_path / "train/1_left.png")
    statuses = sorted((r.status, r.reason) for r in scan(tmp_path).rows)
    assert statuses == [
        ("ok", ""),
        ("quarantined", "trainLabels.csv line 2 names two files in train/; keep one of them"),
    ]


def test_class_names_may_be_given(tmp_path: Path) -> None:
    names = ["none", "mild", "moderate", "severe", "proliferative"]
    found = scan(eyepacs(tmp_path, {"1_left": 4}), classes=names)
    assert (found.classes, by_name(found)["1_left"].label) == (tuple(names), 4)


def test_a_folder_that_is_something_else_is_reported(tmp_path: Path) -> None:
    image(tmp_path / "labeled-images/a.jpg")
    with pytest.raises(CorpusError, match="looks for train, but the folder holds labeled-images"):
        scan(tmp_path)


def test_archives_that_cannot_be_read_in_place_are_reported(tmp_path: Path) -> None:
    (tmp_path / "train.7z").touch()
    with pytest.raises(CorpusError, match=r"7z x train\.7z"):
        scan(tmp_path)


def test_archives_within_an_archive_are_reported(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "diabetic-retinopathy-detection.zip", "w") as archive:
        archive.writestr("train.zip.001", "PK")
        archive.writestr("trainLabels.csv.zip", "PK")
    with pytest.raises(CorpusError, match=r"further archives \(train\.zip\.001, trainLabels\.csv\.zip\): extract it"):
        scan(tmp_path)


def test_no_such_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        scan(tmp_path / "nowhere")


def test_a_csv_without_the_column_is_reported(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0})
    csv(tmp_path / "trainLabels.csv", "image,grade", ["1_left,0"])
    with pytest.raises(CorpusError, match="no column 'level'; it has image, grade"):
        scan(tmp_path)


def test_a_train_folder_without_images_is_reported(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 0})
    shutil.rmtree(tmp_path / "train")
    csv(tmp_path / "train/readme.txt", "nothing here", [])
    with pytest.raises(CorpusError, match="no image found, although there are 1 label rows"):
        scan(tmp_path)
