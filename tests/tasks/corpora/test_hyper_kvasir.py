"""Hyper-Kvasir in its own layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection, SplitSection
from tests.tasks.corpora.layouts import csv, folds, hyper_kvasir
from tests.tasks.corpora.scans import scan_of
from tests.tasks.sources.packing import zip_of

FINDINGS = {"a": "polyps", "b": "cecum", "c": "polyps", "d": "cecum"}
OFFICIAL = SplitSection(official="2_fold_split.csv")


def scan(root: Path, **rest: object) -> Scan:
    return scan_of(CorpusSection(adapter="hyper-kvasir", root=root, **rest))  # type: ignore[arg-type]


def by_name(found: Scan) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def test_classes_are_the_findings_that_are_there(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS, pool=["u"])
    table = root / "labeled-images/image-labels.csv"
    table.write_text(table.read_text() + "z,Upper GI,pylorus,group\n")
    found = scan(root)
    assert found.classes == ("cecum", "polyps")
    assert {n: r.label for n, r in by_name(found).items() if r.path} == {"a": 1, "b": 0, "c": 1, "d": 0, "u": -1}


def test_the_official_file_is_joined_on_file_names(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS)
    folds(root, {"a": 0, "b": 0, "c": 1, "d": 1, "not-here": 0})
    found = scan(root, split=OFFICIAL)
    assert {n: r.split for n, r in by_name(found).items()} == {"a": "train", "b": "train", "c": "test", "d": "test"}
    assert found.official == {"train", "test"}
    assert found.notes == ["1 of 5 rows of 2_fold_split.csv have no image here"]


def test_the_test_fold_is_chosen(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS)
    folds(root / "official_splits", {"a": 0, "b": 0, "c": 1, "d": 1})
    found = scan(root, split=SplitSection(official="2_fold_split.csv", test_fold=0))
    assert by_name(found)["a"].split == "test"


def test_a_labelled_image_in_no_fold_is_quarantined(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS, pool=["u"])
    folds(root, {"a": 0, "b": 0, "c": 1})
    rows = by_name(scan(root, split=OFFICIAL))
    assert rows["d"].reason == "2_fold_split.csv has no row for it, so its fold is unknown"
    assert (rows["d"].status, rows["u"].status) == ("quarantined", "ok")


def test_an_absent_official_file_is_reported(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS)
    with pytest.raises(CorpusError, match=r"neither .*/2_fold_split\.csv nor .*official_splits/2_fold_split\.csv"):
        scan(root, split=OFFICIAL)


def test_an_absent_fold_is_reported(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS)
    folds(root, {"a": 0, "b": 1})
    with pytest.raises(CorpusError, match=r"no fold 4 \(corpus\.split\.test_fold\); it has \[0, 1\]"):
        scan(root, split=SplitSection(official="2_fold_split.csv", test_fold=4))


def test_a_fold_that_is_no_number_is_reported(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, FINDINGS)
    csv(root / "2_fold_split.csv", "file-name;class-name;split-index", ["a.jpg;x;first"])
    with pytest.raises(CorpusError, match=r"2_fold_split\.csv line 2: split-index is 'first'"):
        scan(root, split=OFFICIAL)


def test_a_finding_outside_the_classes_is_quarantined(tmp_path: Path) -> None:
    found = scan(hyper_kvasir(tmp_path, FINDINGS), classes=["polyps"])
    assert by_name(found)["b"].reason.endswith("line 3: label 'cecum' is outside the classes (polyps)")


def test_a_folder_without_the_table_is_reported(tmp_path: Path) -> None:
    csv(tmp_path / "labeled-images/readme.txt", "nothing here", [])
    with pytest.raises(CorpusError, match=r"looks for labeled-images/image-labels\.csv"):
        scan(tmp_path)


def test_the_official_file_may_lie_beside_the_archive(tmp_path: Path) -> None:
    folder = hyper_kvasir(tmp_path / "h", FINDINGS)
    zip_of(folder, tmp_path / "c/hyper-kvasir-labeled-images.zip", within="hyper-kvasir/")
    folds(tmp_path / "c", {"a": 0, "b": 0, "c": 1, "d": 1})
    found = scan(tmp_path / "c", split=OFFICIAL)
    assert {n: r.split for n, r in by_name(found).items()} == {"a": "train", "b": "train", "c": "test", "d": "test"}
    assert found.below == "hyper-kvasir"
    assert all(str(row.path).startswith("labeled-images/") for row in found.rows)


def test_classes_may_have_the_names_of_the_split_files(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, {"a": "polyps", "b": "cecum", "c": "hemorrhoids"})
    found = scan(root, classes=["normal-cecum", "polyp", "hemorrhoids"])
    assert {name: found.classes[row.label] for name, row in by_name(found).items()} == {
        "a": "polyp",
        "b": "normal-cecum",
        "c": "hemorrhoids",
    }
