"""Folders, files and images of a source, by path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.corpora.base import need, within
from tasks.sources import Tree, open_source
from tasks.sources.base import FILES, Lister, by_path


class Listed:
    """A source that is a list of paths, each a file that holds its own path."""

    url = "/somewhere"
    notes: tuple[str, ...] = ()

    def __init__(self, *paths: str) -> None:
        lister = Lister()
        for path in paths:
            lister.add(path, len(path), "")
        self._files = by_path(lister.finish())

    def files(self) -> object:
        return self._files

    def read(self, path: str, stamp: str) -> bytes:
        return path.encode()

    def digest(self, path: str, stamp: str) -> str:
        raise NotImplementedError


def tree(*paths: str, below: str = "") -> Tree:
    return Tree(Listed(*paths), below)  # type: ignore[arg-type]


PARTS = st.text("ab.-/é", min_size=1, max_size=4).filter(lambda t: "/" not in t and t not in (".", ".."))
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), unique=True, max_size=12)


@settings(deadline=None)
@given(PATHS, st.lists(PARTS, max_size=2).map("/".join))
def test_it_says_what_a_walk_over_all_paths_says(paths: list[str], folder: str) -> None:
    found = tree(*paths)
    base = f"{folder}/" if folder else ""
    inside = [p[len(base) :] for p in paths if p.startswith(base)]
    assert sorted(set(found.names(folder))) == sorted({p.partition("/")[0] for p in inside})
    assert found.is_dir(folder) == bool(inside)
    assert found.is_file(folder) == (folder in paths)
    assert sorted(found.folders(folder)) == sorted(
        {p.partition("/")[0] for p in inside if "/" in p and not p.startswith(".")}
    )
    assert Tree(found.source, folder).with_suffix("a") == sorted(
        p for p in inside if p.endswith("a") and not any(part.startswith(".") for part in p.split("/"))
    )


def test_paths_of_a_folder_are_relative_to_it() -> None:
    found = tree("a/b/1.jpg", "a/2.jpg").sub("a")
    assert (found.images(), found.read("b/1.jpg"), found.sub("b").images()) == (
        ["2.jpg", "b/1.jpg"],
        b"a/b/1.jpg",
        ["1.jpg"],
    )
    assert found.show("b/1.jpg") == "/somewhere/a/b/1.jpg"


@pytest.mark.parametrize("way", ["", ".", "./", "/"])
def test_the_folder_itself_has_many_names(way: str) -> None:
    assert tree("x/1.jpg", below=way).images(way) == ["x/1.jpg"]


def test_images_are_told_by_their_suffix_in_any_case() -> None:
    names = ["1.JPG", "2.jpeg", "3.Png", "4.tif", "5.webp", "6.jpgx", "7.txt", "8jpg", "d.jpg/9.csv"]
    assert tree(*names).images() == names[:5]


def test_hidden_files_and_mac_leftovers_are_no_images() -> None:
    assert tree("._1.jpg", ".x/2.jpg", "a/.3.jpg", "__MACOSX/4.jpg", "a/__MACOSX/5.jpg", "6.jpg").images() == ["6.jpg"]


@pytest.mark.parametrize("folder", ["@eaDir/1.jpg", "#recycle", "$RECYCLE.BIN", "lost+found"])
def test_folders_of_systems_hold_no_images(folder: str) -> None:
    found = tree(f"{folder}/SYNOPHOTO_THUMB_M.jpg", f"a/{folder}/1.png", "1.jpg")
    assert found.images() == ["1.jpg"]
    assert found.folders() == ["a"]


def test_a_folder_that_was_named_is_searched_although_hidden() -> None:
    assert tree(".x/1.jpg").images(".x") == [".x/1.jpg"]


def test_a_climb_finds_nothing() -> None:
    found = tree("a/1.jpg", "b/2.jpg").sub("a")
    assert not found.is_file("../b/2.jpg")
    assert found.images("../b") == []


def test_an_absent_file_is_named_when_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file") as caught:
        Tree(open_source(tmp_path)).read("a.csv")
    assert caught.value.filename == f"{tmp_path}/a.csv"


def test_an_empty_source_has_nothing(tmp_path: Path) -> None:
    found = Tree(open_source(tmp_path))
    assert (found.images(), found.names(), found.is_dir("x"), len(found.source.files())) == ([], [], False, 0)
    assert found.source.files().schema == FILES


@pytest.mark.parametrize(
    ("paths", "below"),
    [
        (["train/1.jpg", "data/train/1.jpg"], ""),
        (["data/train/1.jpg", "readme.txt"], "data"),
        (["data/data/train/1.jpg"], "data/data"),
        (["data/train/1.jpg", "other/1.jpg", ".git/train/1"], "data"),
    ],
)
def test_the_folder_with_the_corpus_is_found(paths: list[str], below: str) -> None:
    found = within(tree(*paths), "train")
    assert found is not None
    assert found.below == below


@pytest.mark.parametrize("paths", [["a/train/1.jpg", "b/train/1.jpg"], ["a/1.jpg", "b/x/train/1.jpg"], ["1.jpg"]])
def test_no_folder_is_chosen_where_there_is_a_choice(paths: list[str]) -> None:
    assert within(tree(*paths), "train") is None


def test_several_folders_with_the_corpus_are_told() -> None:
    with pytest.raises(Exception, match=r"train is in each of a, b; name one of these folders as corpus\.root"):
        need(tree("a/train/1.jpg", "b/train/1.jpg"), "eyepacs", "train")
