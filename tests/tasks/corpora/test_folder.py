"""Images whose folders say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import image
from tests.tasks.corpora.scans import scan_of


def scan(root: Path, paths: list[str], **section: object) -> Scan:
    """Draw the images and scan them; `folder` and other keys of the section."""
    for seed, path in enumerate(paths):
        image(root / path, seed)
    return scan_of(CorpusSection.model_validate({"adapter": "folder", "root": str(root), **section}))


def by_path(found: Scan) -> dict[str, Row]:
    return {row.path or "": row for row in found.rows}


def test_a_folder_is_the_label_by_default(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a/1.png", "a/deep/2.png", "b/1.png"])
    assert {path: found.classes[row.label] for path, row in by_path(found).items()} == {
        "a/1.png": "a",
        "a/deep/2.png": "a",
        "b/1.png": "b",
    }


def test_folders_give_patient_split_and_attributes(tmp_path: Path) -> None:
    found = scan(
        tmp_path,
        ["North/training/p1/a/x.png", "South/testing/p2/b/x.png"],
        folder={"layout": "{site}/{split}/{patient}/{label}"},
    )
    rows = by_path(found)
    first, second = rows["North/training/p1/a/x.png"], rows["South/testing/p2/b/x.png"]
    assert (first.site, first.split, first.patient, first.label) == ("North", "train", "p1", 0)
    assert (second.site, second.split, second.patient, second.label) == ("South", "test", "p2", 1)
    assert found.official == {"train", "test"}


def test_names_of_images_say_things_too(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a/17_OD.png", "b/18_os.png"], folder={"layout": "{label}", "name": "{patient}_{eye}"})
    assert {(row.patient, row.eye) for row in found.rows} == {("17", "right"), ("18", "left")}


def test_words_that_mean_unlabelled_make_the_pool(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a/1.png", "b/1.png", "pool/1.png"], folder={"unlabelled": ["pool"]})
    assert by_path(found)["pool/1.png"].label == -1
    assert found.classes == ("a", "b")


def test_an_image_that_lies_elsewhere_is_an_error_or_the_pool(tmp_path: Path) -> None:
    paths = ["a/1.png", "b/1.png", "stray.png"]
    with pytest.raises(CorpusError, match=r"1 of 3 images do not lie as corpus\.folder says .*first stray\.png"):
        scan(tmp_path, paths)
    assert by_path(scan(tmp_path, paths, folder={"rest": "pool"}))["stray.png"].label == -1


def test_a_folder_outside_the_classes_is_quarantined_and_named(tmp_path: Path) -> None:
    found = scan(tmp_path, ["a/1.png", "b/1.png", "c/1.png"], classes=["a", "b"])
    row = by_path(found)["c/1.png"]
    assert (row.status, row.reason) == ("quarantined", "label 'c' is outside the classes (a, b)")


def test_grades_are_in_order(tmp_path: Path) -> None:
    found = scan(tmp_path, [f"{grade}/1.png" for grade in (10, 2, 0)], task="ordinal")
    assert found.classes == ("0", "2", "10")


@pytest.mark.parametrize(
    ("folder", "match"),
    [
        ({"layout": "{klass}"}, r"corpus\.folder\.layout: {klass} is none of label, patient"),
        ({"layout": "{label}/{label}"}, r"{label} stands twice"),
        ({"layout": "**/{label}"}, r"\*\* may only be the last folder"),
        ({"layout": "*"}, r"neither layout '\*' nor name has {label}"),
        ({"layout": "{label}/{split}"}, r"a/x/1\.png: its split is 'x'; train, val or test is expected"),
    ],
)
def test_a_layout_that_means_nothing_is_an_error(tmp_path: Path, folder: dict[str, str], match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        scan(tmp_path, ["a/x/1.png", "b/x/1.png"], folder=folder)
