"""Kvasir in its own layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import image
from tests.tasks.corpora.public_layouts import KVASIR, kvasir
from tests.tasks.corpora.scans import scan_of
from tests.tasks.sources.packing import zip_of


def scan(root: Path, **rest: object) -> Scan:
    return scan_of(CorpusSection(adapter="kvasir", root=str(root), **rest))  # type: ignore[arg-type]


@pytest.mark.parametrize("nested", [False, True])
def test_the_folder_is_the_class(tmp_path: Path, nested: bool) -> None:
    kvasir(tmp_path / "kvasir-dataset-v2/kvasir-dataset-v2" if nested else tmp_path)
    found = scan(tmp_path)
    assert {(row.path or "").split("/")[0]: found.classes[row.label] for row in found.rows} == {
        name: name for name in KVASIR
    }
    assert (found.task, found.modality, found.crop, found.official) == ("single", "endoscopy", "endoscopy", frozenset())


def test_the_archive_is_read_as_it_is(tmp_path: Path) -> None:
    zip_of(kvasir(tmp_path / "k"), tmp_path / "kvasir-dataset-v2.zip", within="kvasir-dataset-v2/")
    assert len(scan(tmp_path / "kvasir-dataset-v2.zip").rows) == 16


def test_half_a_download_is_an_error(tmp_path: Path) -> None:
    kvasir(tmp_path, classes=KVASIR[:6])
    with pytest.raises(CorpusError, match=r"each of 8 classes, and polyps, ulcerative-colitis are not there"):
        scan(tmp_path)


def test_fewer_images_than_the_corpus_has_are_told_by_class(tmp_path: Path) -> None:
    notes = scan(kvasir(tmp_path)).notes
    assert notes[0].startswith("16 images; Kvasir has 4000 and Kvasir-v2 8000, so many of each class: dyed-lifted-")


def test_a_folder_that_is_no_class_is_told(tmp_path: Path) -> None:
    image(kvasir(tmp_path) / "instruments/a.jpg")
    assert "folders instruments are no class and are left out" in scan(tmp_path).notes


def test_classes_may_be_fewer(tmp_path: Path) -> None:
    found = scan(kvasir(tmp_path), classes=["polyps", "normal-cecum"])
    assert {row.label for row in found.rows} == {0, 1}
    assert len(found.rows) == 4
