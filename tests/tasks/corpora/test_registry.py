"""Which adapter a folder is for, and phantoms that are drawn once."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora import ADAPTERS, guess
from tasks.sources import Tree, open_source
from tasks.spec import CorpusSection, PhantomSection
from tests.tasks.corpora.layouts import csv, eyepacs, hyper_kvasir, image
from tests.tasks.corpora.public_layouts import PUBLIC
from tests.tasks.corpora.scans import scan_of
from tests.tasks.sources.packing import zip_of


def phantom(root: Path, **rest: int) -> CorpusSection:
    options = {"size": 64, "labelled": 10, "unlabelled": 4, "val": 4, "test": 4, **rest}
    return CorpusSection(adapter="phantom-fundus", root=root, phantom=PhantomSection(**options))  # type: ignore[arg-type]


def tree(root: Path) -> Tree:
    return Tree(open_source(root))


def test_every_adapter_describes_itself() -> None:
    assert all(adapter.name == name and adapter.describe() for name, adapter in ADAPTERS.items())


def test_layouts_are_distinguished(tmp_path: Path) -> None:
    eyepacs(tmp_path / "e", {"1_left": 0})
    hyper_kvasir(tmp_path / "h", {"a": "polyps"})
    image(csv(tmp_path / "t/labels.csv", "name,label", []).with_name("a.png"))
    (tmp_path / "n").mkdir()
    found = [guess(tree(tmp_path / name)) for name in "ehtn"]
    assert [f and f[0] for f in found] == ["eyepacs", "hyper-kvasir", "table", None]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_corpora_are_recognised_inside_a_folder(tmp_path: Path, name: str) -> None:
    PUBLIC[name](tmp_path / "downloads" / name)
    found = guess(tree(tmp_path / "downloads"))
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize("name", PUBLIC)
def test_the_empty_folder_of_a_public_corpus_says_what_is_expected(tmp_path: Path, name: str) -> None:
    image(tmp_path / "holiday/a.jpg")
    with pytest.raises(CorpusError, match=f"{name} (looks for|expects)"):
        scan_of(CorpusSection(adapter=name, root=str(tmp_path)))  # type: ignore[arg-type]


def test_layouts_are_distinguished_when_packed(tmp_path: Path) -> None:
    zip_of(eyepacs(tmp_path / "e", {"1_left": 0}), tmp_path / "e.zip")
    zip_of(hyper_kvasir(tmp_path / "h", {"a": "polyps"}), tmp_path / "h.zip", within="hyper-kvasir/")
    assert [(guess(tree(tmp_path / name)) or [""])[0] for name in ("e.zip", "h.zip")] == ["eyepacs", "hyper-kvasir"]


def test_layouts_know_how_their_images_are_cropped(tmp_path: Path) -> None:
    fundus, endoscopy = eyepacs(tmp_path / "e", {"1_left": 0}), hyper_kvasir(tmp_path / "h", {"a": "polyps"})
    sections = [
        CorpusSection(adapter="eyepacs", root=str(fundus)),
        CorpusSection(adapter="hyper-kvasir", root=str(endoscopy)),
        phantom(tmp_path / "drawn"),
    ]
    assert [scan_of(section).crop for section in sections] == ["fundus", "endoscopy", "none"]


def test_a_phantom_is_drawn_once(tmp_path: Path) -> None:
    root = tmp_path / "drawn"
    first = scan_of(phantom(root))
    drawn = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    again = scan_of(phantom(root))
    assert first.rows == again.rows
    assert (first.size, first.modality) == (64, "fundus")
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == drawn
    assert guess(tree(root)) == ("phantom-fundus", "phantom.json")


def test_another_phantom_in_the_folder_is_reported(tmp_path: Path) -> None:
    scan_of(phantom(tmp_path / "drawn"))
    with pytest.raises(CorpusError, match="already holds the phantom corpus"):
        scan_of(phantom(tmp_path / "drawn", seed=9))


def test_a_phantom_is_never_drawn_among_other_files(tmp_path: Path) -> None:
    image(tmp_path / "mine.png")
    with pytest.raises(CorpusError, match="already holds files that are no phantom"):
        scan_of(phantom(tmp_path))


def test_an_endoscopy_phantom_reads_like_hyper_kvasir(tmp_path: Path) -> None:
    section = CorpusSection(
        adapter="phantom-endoscopy",
        root=tmp_path / "drawn",
        phantom=PhantomSection(size=64, labelled=12, unlabelled=3),
    )
    found = scan_of(section)
    assert (found.modality, sum(r.labelled for r in found.rows), len(found.rows)) == ("endoscopy", 12, 15)


def test_another_competition_with_files_of_the_same_names_is_a_table(tmp_path: Path) -> None:
    image(tmp_path / "train_images/a.png")
    csv(tmp_path / "train.csv", "image_id,label", ["a,1"])
    found = guess(tree(tmp_path))
    assert found is not None
    assert found[0] == "table"
