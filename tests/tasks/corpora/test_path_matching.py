"""Finding the file that a table means."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.corpora.path_matching import PathMatcher


def found(paths: list[str], *names: str) -> list[list[str]]:
    """Paths that each name may mean, sorted."""
    answer = PathMatcher(paths).find(names)
    runs = zip(answer.start.tolist(), answer.count.tolist(), strict=True)
    return [sorted(paths[at] for at in answer.files[start : start + count]) for start, count in runs]


def find(paths: list[str], name: str) -> list[str]:
    return found(paths, name)[0]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.png", "images/a.png"),
        ("a", "images/a.png"),
        ("A.PNG", "images/a.png"),
        ("a.jpg", "images/a.png"),
        ("images/a.png", "images/a.png"),
        ("Set-v1/train/images/a.png", "images/a.png"),
        (".\\images\\a.png", "images/a.png"),
        ("scan.1.2", "scan.1.2.png"),
        ("scan.jpg", "scan.jpg.png"),
    ],
)
def test_a_name_finds_its_file(name: str, path: str) -> None:
    assert find([path, "other/b.png"], name) == [path]


def test_another_folder_is_another_image() -> None:
    assert find(["p2/view1.png"], "p1/view1.png") == []


def test_a_flat_copy_is_found() -> None:
    assert find(["view1.png"], "p1/view1.png") == ["view1.png"]


def test_the_exact_name_goes_first() -> None:
    assert find(["a.png", "A.png", "a.jpg"], "a.png") == ["a.png"]


def test_a_name_that_says_too_little_finds_several() -> None:
    assert find(["p1/a.png", "p2/a.png"], "a") == ["p1/a.png", "p2/a.png"]


def test_accents_match_in_any_unicode_form() -> None:
    decomposed = unicodedata.normalize("NFD", "Zoë.png")
    assert find([decomposed], "Zoë") == [decomposed]


def test_an_unknown_name_finds_nothing() -> None:
    assert find(["a.png"], "b") == []


def test_names_are_looked_up_together_as_they_are_alone() -> None:
    paths = ["p1/a.png", "p2/a.png", "p2/b.jpg", "C.png"]
    names = ["a", "p2/a.png", "b.png", "no", "set/p1/a.png", "c", "", "a"]
    assert found(paths, *names) == [find(paths, name) for name in names]


def test_the_only_file_of_each_name_is_reported() -> None:
    finder = PathMatcher(["p1/a.png", "p2/a.png", "b.png"])
    assert finder.single(pa.array(["a", "b", "p2/a", "no"])) == ["", "b.png", "p2/a.png", ""]


def test_every_file_that_names_may_mean_is_reported_once() -> None:
    finder = PathMatcher(["p1/a.png", "p2/a.png", "b.png"])
    assert sorted(finder.meant(["a", "no", "a"])) == ["p1/a.png", "p2/a.png"]


def test_of_names_that_mean_the_same_files_the_last_is_reported() -> None:
    answer = PathMatcher(["p1/a.png", "p2/a.png", "b.png"]).find(["a", "b", "a"])
    names, files = answer.pairs(np.array([0, 1, 2]))
    assert (names.tolist(), files.tolist()) == ([1, 2, 2], [2, 0, 1])


def test_a_name_with_more_folders_than_any_path_is_found_without_them() -> None:
    assert find(["a/b.png"], "x/" * 3000 + "a/b.png") == ["a/b.png"]


def test_paths_of_a_thousand_folders_are_found() -> None:
    deep = "x/" * 1500 + "b.png"
    assert found([f"a/{deep}", "c.png"], f"a/{deep}", "x/" * 900 + "b.png", f"../a/{deep}") == [[f"a/{deep}"]] * 3


def test_nothing_is_found_among_no_paths() -> None:
    assert found([], "a", "b/c") == [[], []]


PARTS = st.sampled_from(["a", "A", "a.png", "A.PNG", "a.jpg", "a.jpg.png", "b", "é.png", "e\u0301.png"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@settings(deadline=None)
@given(paths=st.lists(PATHS, unique=True, max_size=8), names=st.lists(PATHS, max_size=4))
def test_every_path_that_ends_with_the_name_is_found_and_no_other(paths: list[str], names: list[str]) -> None:
    for name, own in zip(names, found(paths, *names), strict=True):
        ending = sorted(p for p in paths if p == name or p.endswith(f"/{name}"))
        assert set(own) <= set(paths)
        assert not ending or own == ending


@settings(deadline=None)
@given(st.lists(PATHS, unique=True, max_size=8))
def test_a_folder_that_is_not_here_does_not_hide_a_path(paths: list[str]) -> None:
    assert found(paths, *(f"elsewhere/{path}" for path in paths)) == [[path] for path in paths]


def test_a_whole_path_means_that_file_alone() -> None:
    paths = ["x/test/a.png", "x/x/test/a.png", "a.png"]
    assert found(paths, "x/test/a.png", "test/a.png", "a.png") == [
        ["x/test/a.png"],
        ["x/test/a.png", "x/x/test/a.png"],
        ["a.png"],
    ]
