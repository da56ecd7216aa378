"""`stillroom init` where folders are the labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.proposal.proposal import write_spec
from tests.tasks.proposal.folders import images, read_back, tree


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "work" / "own.yaml"


def test_patients_are_folders_around_classes(tmp_path: Path, to: Path) -> None:
    names = [f"PAT{p:03d}/{kind}/{p}-{i}.png" for p in range(12) for kind in ("normal", "polyp") for i in range(2)]
    images(tmp_path / "c", names)
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert {row.patient for row in scan.rows} == {f"PAT{p:03d}" for p in range(12)}


def test_folders_that_are_numbers_of_many_values_are_refused(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"{i:02d}/{i}-{j}.png" for i in range(25) for j in range(3)])
    with pytest.raises(CorpusError, match=r"the folders are no classes: .* Write a CSV with the columns image,label"):
        write_spec(tmp_path / "c", to)


def test_one_folder_for_each_class(tmp_path: Path, to: Path) -> None:
    root = tmp_path / "kvasir"
    images(root, [f"kvasir/{name}/{i}.jpg" for name in ("polyps", "z line") for i in range(10)])
    images(root, [f"kvasir/unlabelled/u{i}.jpg" for i in range(3)])
    before = tree(root)
    found = write_spec(root, to)
    spec, scan = read_back(found)
    assert tree(root) == before
    assert spec.corpus.folder is not None
    assert (spec.corpus.folder.layout, spec.corpus.folder.unlabelled) == ("*/{label}", ["unlabelled"])
    assert scan.classes == ("polyps", "z line")
    assert sum(not row.labelled for row in scan.rows) == 3


def test_class_folders_within_split_folders(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"{s}/{c}/{i}.png" for s in ("train", "val", "test") for c in "ab" for i in range(6)])
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert (scan.classes, scan.official) == (("a", "b"), {"train", "val", "test"})


def test_class_folders_with_patient_folders(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"{c}/p{c}{p}/{i}.png" for c in "ab" for p in range(8) for i in range(3)])
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert scan.classes == ("a", "b")
    assert len({row.patient for row in scan.rows}) == 16


def test_class_folders_with_patients_and_studies(tmp_path: Path, to: Path) -> None:
    names = [f"{c}/p{c}{p}/{s}/{i}.png" for c in "ab" for p in range(8) for s in ("s0", "study1") for i in range(2)]
    images(tmp_path / "c", names)
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert scan.classes == ("a", "b")
    assert len({row.patient for row in scan.rows}) == 16


def test_numbered_classes_with_patients_in_them(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"grade{c}/p{c}-{p}/left/{i}.png" for c in range(3) for p in range(8) for i in range(2)])
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert scan.classes == ("grade0", "grade1", "grade2")
    assert len({row.patient for row in scan.rows}) == 24


def test_folders_of_patients_and_studies_alone_are_no_classes(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"patient{p:03d}/study{s}/{i}.png" for p in range(9) for s in range(2) for i in range(2)])
    with pytest.raises(CorpusError, match=r"the folders are patients \(patient000, \.\.\.\), and none is a class"):
        write_spec(tmp_path / "c", to)


def test_folders_that_spell_one_class_in_two_ways_are_one_class(tmp_path: Path, to: Path) -> None:
    images(
        tmp_path / "c", [f"{name}/{i}.png" for name, n in (("polyp", 9), ("Polyp", 5), ("z_line", 9)) for i in range(n)]
    )
    found = write_spec(tmp_path / "c", to)
    assert read_back(found)[1].classes == ("polyp", "z_line")
    assert any("first 'Polyp' for 'polyp'" in note for note in found["notes"])


def test_folders_that_no_layout_describes_become_a_table(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"labelled/{name}/{i}.jpg" for name in ("a", "b") for i in range(10)])
    images(tmp_path / "c", [f"pool/u{i}.jpg" for i in range(3)])
    spec, scan = read_back(write_spec(tmp_path / "c", to))
    assert spec.corpus.table is not None
    assert Path(spec.corpus.table.csv).parent == to.parent
    assert sum(not row.labelled for row in scan.rows) == 3


@pytest.mark.parametrize(
    ("paths", "layout"),
    [
        ([f"{c}/{i}.png" for c in "ab" for i in range(9)], "{label}"),
        ([f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "ab" for i in range(9)], "{split}/{label}"),
        ([f"PAT{p:03d}/{c}/{i}.png" for p in range(12) for c in "ab" for i in range(2)], "{patient}/{label}"),
        ([f"{c}/p{c}{p}/{i}.png" for c in "ab" for p in range(8) for i in range(3)], "{label}/{patient}"),
        ([f"{c}/p{c}{p}/s{s}/{p}{s}.png" for c in "ab" for p in range(8) for s in (0, 1)], "{label}/{patient}/**"),
        ([f"x/y/{c}/images/{i}.png" for c in "ab" for i in range(9)], "*/*/{label}/**"),
    ],
)
def test_regular_folders_become_a_layout(tmp_path: Path, to: Path, paths: list[str], layout: str) -> None:
    images(tmp_path / "c", paths)
    spec, _ = read_back(write_spec(tmp_path / "c", to))
    assert spec.corpus.folder is not None
    assert spec.corpus.folder.layout == layout
    assert not list(to.parent.glob("*.csv"))
