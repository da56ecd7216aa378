"""DDR in its own layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora import guess
from tasks.corpora.scan import Row, Scan
from tasks.sources import Tree, open_source
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import image
from tests.tasks.corpora.public_layouts import ddr
from tests.tasks.corpora.scans import scan_of
from tests.tasks.sources.packing import zip_of


def scan(root: Path, **rest: object) -> Scan:
    return scan_of(CorpusSection.model_validate({"adapter": "ddr", "root": str(root), **rest}))


def by_path(found: Scan) -> dict[str, Row]:
    return {row.path or row.name: row for row in found.rows}


def test_lists_give_grades_and_splits_and_grade_5_is_ungradable(tmp_path: Path) -> None:
    found = scan(ddr(tmp_path))
    assert {path: (row.label, row.split, row.gradable) for path, row in by_path(found).items()} == {
        "train/007-0004-000.jpg": (0, "train", "yes"),
        "train/007-0007-000.jpg": (2, "train", "yes"),
        "train/20170323093305605.jpg": (-1, "train", "no"),
        "valid/007-2489-100.jpg": (4, "val", "yes"),
        "test/007-0004-000.jpg": (1, "test", "yes"),
    }
    assert (found.official, found.task, found.modality) == ({"train", "val", "test"}, "ordinal", "fundus")
    assert ({row.status for row in found.rows}, {row.patient for row in found.rows}, found.notes) == ({"ok"}, {""}, [])


def test_an_ungradable_image_is_no_matter_of_a_label_map(tmp_path: Path) -> None:
    found = scan(ddr(tmp_path), label_map="referable")
    assert [row.label for row in found.rows] == [0, 1, -1, 1, 0]


def test_the_download_is_read_where_it_is_packed(tmp_path: Path) -> None:
    zip_of(ddr(tmp_path / "plain"), tmp_path / "DDR-dataset.zip", within="DDR-dataset/")
    packed, plain = scan(tmp_path / "DDR-dataset.zip"), scan(tmp_path / "plain")
    assert packed.rows == plain.rows
    assert packed.below == "DDR-dataset/DR_grading"


def test_the_folder_of_the_lists_may_be_named_itself(tmp_path: Path) -> None:
    assert scan(ddr(tmp_path) / "DR_grading").rows == scan(tmp_path).rows


def test_a_grade_that_is_none_is_quarantined_with_its_line(tmp_path: Path) -> None:
    found = scan(ddr(tmp_path, {"train": {"a.jpg": 0, "b.jpg": 7}}))
    row = by_path(found)["train/b.jpg"]
    assert (row.reason, row.gradable) == ("train.txt line 2: label '7' is outside the classes (0 to 4)", "")


def test_a_list_without_its_images_is_an_error(tmp_path: Path) -> None:
    (ddr(tmp_path) / "DR_grading/valid/007-2489-100.jpg").unlink()
    with pytest.raises(CorpusError, match=r"DR_grading/valid: no image in it, although valid\.txt is there"):
        scan(tmp_path)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_renamed_list_is_an_error_that_says_what_is_there(tmp_path: Path, part: str) -> None:
    (ddr(tmp_path) / f"DR_grading/{part}.txt").rename(tmp_path / "DR_grading/list.txt")
    with pytest.raises(CorpusError, match=rf"{part}\.txt: no such file, although {part}/ is there \(.*list\.txt"):
        scan(tmp_path)


def test_a_split_that_is_not_here_is_told_and_is_not_official(tmp_path: Path) -> None:
    found = scan(ddr(tmp_path, {"train": {"a.jpg": 0, "b.jpg": 1}}))
    assert found.official == frozenset()
    assert found.notes == [
        "neither valid.txt nor images in valid/ are here",
        "neither test.txt nor images in test/ are here",
    ]


def test_a_row_without_an_image_is_missing_and_an_image_without_a_row_unlabelled(tmp_path: Path) -> None:
    folder = ddr(tmp_path) / "DR_grading/train"
    (folder / "007-0007-000.jpg").unlink()
    image(tmp_path / "DR_grading/test/other.jpg", 50)
    found = scan(tmp_path)
    rows = by_path(found)
    assert (rows["007-0007-000"].status, rows["007-0007-000"].reason) == ("missing", "train.txt line 2: no such image")
    assert (rows["test/other.jpg"].label, rows["test/other.jpg"].split) == (-1, "test")
    assert found.notes == ["1 of 3 images that train.txt names are not in train/; first train.txt line 2"]


@pytest.mark.parametrize("line", ["007-0009-000.jpg", "007-0009-000 1", "007-0009-000.jpg,1"])
def test_a_line_that_is_no_name_and_grade_is_an_error(tmp_path: Path, line: str) -> None:
    with (ddr(tmp_path) / "DR_grading/train.txt").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(CorpusError, match=rf"train\.txt line 5: '{line}' is not an image's name and its grade"):
        scan(tmp_path)


def test_lists_of_names_alone_are_another_corpus(tmp_path: Path) -> None:
    image(tmp_path / "train/a.jpg")
    (tmp_path / "train.txt").write_text("a.jpg\nb.jpg\n")
    assert guess(Tree(open_source(tmp_path))) is None
