"""A corpus reads the same from a folder, a zip, a zip in parts, a tar, and archives in a folder."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks.corpora import Scan, adapter_of
from tasks.sources import Source, Tree, open_source
from tasks.spec import CorpusSection, SplitSection
from tests.tasks.corpora.layouts import eyepacs, folds, hyper_kvasir, many_patients, solution
from tests.tasks.sources.packing import cut, files_of, tar_of, zip_of

EYEPACS = CorpusSection(adapter="eyepacs", root=Path())
KVASIR = CorpusSection(adapter="hyper-kvasir", root=Path(), split=SplitSection(official="2_fold_split.csv"))


def as_kaggle(folder: Path, place: Path) -> Path:
    """Every folder and table packed on its own: the images in five parts, the tables in zips of their own."""
    for path in folder.iterdir():
        if path.is_dir():
            whole = zip_of(path, place / "whole.zip", within=f"{path.name}/", method=zipfile.ZIP_STORED)
            cut(whole, place / f"{path.name}.zip.001", 5)
            whole.unlink()
        else:
            with zipfile.ZipFile(place / f"{path.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, path.name)
    return place


def partly_unpacked(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place, dirs_exist_ok=True)
    zip_of(folder, place / "all.zip")
    for path in files_of(place)[::2]:
        if path.name != "all.zip":
            path.unlink()
    return place


KINDS: dict[str, Callable[[Path, Path], Path]] = {
    "folder": lambda folder, place: folder,
    "zip": lambda folder, place: zip_of(folder, place / "a.zip"),
    "stored zip": lambda folder, place: zip_of(folder, place / "a.zip", method=zipfile.ZIP_STORED),
    "zip in parts": lambda folder, place: cut(zip_of(folder, place / "w.zip"), place / "a.zip.001", 4),
    "pax tar": lambda folder, place: tar_of(folder, place / "a.tar"),
    "gnu tar": lambda folder, place: tar_of(folder, place / "a.tar", style=tarfile.GNU_FORMAT),
    "folder with a zip": lambda folder, place: zip_of(folder, place / "a.zip").parent,
    "folder with a tar": lambda folder, place: tar_of(folder, place / "a.tar").parent,
    "as kaggle has it": as_kaggle,
    "partly unpacked": partly_unpacked,
}
PACKED_FOLDERS: dict[str, Callable[[Path, Path], Path]] = {
    "zip of a folder": lambda folder, place: zip_of(folder, place / "a.zip", within="data/"),
    "folder in a folder": lambda folder, place: zip_of(folder, place / "a.zip", within="data/data/").parent,
    "tar with dots": lambda folder, place: tar_of(folder, place / "a.tar", within="./data/"),
}


def layout(section: CorpusSection, root: Path) -> Path:
    if section is EYEPACS:
        return solution(eyepacs(root, many_patients(6), pool=["99_left"]), {"7_left": (1, "Public")})
    names = {name: finding for name, finding in zip("abcdef", ["polyps", "cecum"] * 3, strict=True)}
    return folds(hyper_kvasir(root, names, pool=["u", "v"]), {n: i % 2 for i, n in enumerate(names)}).parent


def told(found: Scan) -> dict[str, object]:
    return {**asdict(found), "rows": found.rows.table.to_pylist(), "below": "", "notes": None}


def scan(section: CorpusSection, source: Source) -> Scan:
    return adapter_of(section.adapter).scan(section, Tree(source))


@pytest.mark.parametrize("section", [EYEPACS, KVASIR], ids=lambda s: s.adapter)
@pytest.mark.parametrize("kind", [*KINDS, *PACKED_FOLDERS])
def test_every_kind_gives_the_same_rows_and_bytes(tmp_path: Path, kind: str, section: CorpusSection) -> None:
    folder = layout(section, tmp_path / "folder")
    place = tmp_path / "place"
    place.mkdir()
    source = open_source({**KINDS, **PACKED_FOLDERS}[kind](folder, place))
    found = scan(section, source)
    assert told(found) == told(scan(section, open_source(folder)))
    listed = {row["path"]: row for row in source.files().to_pylist()}
    again = open_source(source.url)  # as a worker opens it, which lists nothing
    images = [row.path for row in found.rows if row.path]
    assert len(images) >= 8
    for path in images:
        data = (folder / path).read_bytes()
        row = listed["/".join(part for part in (found.below, path) if part)]
        assert again.read(row["path"], row["stamp"]) == data
        assert again.digest(row["path"], row["stamp"]) == hashlib.sha256(data).hexdigest()
        assert row["size"] == len(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_is_sorted_and_names_every_file_once(tmp_path: Path, kind: str) -> None:
    folder = layout(EYEPACS, tmp_path / "folder")
    (tmp_path / "place").mkdir()
    paths = open_source(KINDS[kind](folder, tmp_path / "place")).files()["path"].to_pylist()
    assert paths == sorted(set(paths))
    assert {p.relative_to(folder).as_posix() for p in files_of(folder)} <= set(paths)


def test_what_is_unpacked_beside_its_archive_wins_and_is_told(tmp_path: Path) -> None:
    folder = eyepacs(tmp_path / "e", {"1_left": 0, "1_right": 1})
    zip_of(folder, tmp_path / "all.zip").rename(folder / "all.zip")
    (folder / "train/1_left.jpeg").write_bytes(b"mine")
    source = open_source(folder)
    assert Tree(source).read("train/1_left.jpeg") == b"mine"
    assert source.notes == ["all.zip: 3 of its files are unpacked beside it already; those are read"]


def test_two_archives_may_hold_the_same_file(tmp_path: Path) -> None:
    eyepacs(tmp_path / "e", {"1_left": 0})
    zip_of(tmp_path / "e", tmp_path / "c/a.zip")
    zip_of(tmp_path / "e", tmp_path / "c/b.zip", method=zipfile.ZIP_STORED)
    assert len(scan(EYEPACS, open_source(tmp_path / "c")).rows) == 1


def test_mac_leftovers_are_no_images_and_no_archives(tmp_path: Path) -> None:
    folder = eyepacs(tmp_path / "e", {"1_left": 0})
    (folder / "train/._1_left.jpeg").write_bytes(b"mac")
    (folder / "__MACOSX/train").mkdir(parents=True)
    (folder / "__MACOSX/train/1_left.jpeg").write_bytes(b"mac")
    (folder / "._a.zip").write_bytes(b"mac")
    assert Tree(open_source(folder)).images() == ["train/1_left.jpeg"]
