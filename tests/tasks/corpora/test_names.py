"""Finding the file that a table means."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.corpora.names import Finder


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
    assert Finder([path, "other/b.png"]).find(name) == [path]


def test_another_folder_is_another_image() -> None:
    assert Finder(["p2/view1.png"]).find("p1/view1.png") == []


def test_a_flat_copy_is_found() -> None:
    assert Finder(["view1.png"]).find("p1/view1.png") == ["view1.png"]


def test_the_exact_name_goes_first() -> None:
    assert Finder(["a.png", "A.png", "a.jpg"]).find("a.png") == ["a.png"]


def test_a_name_that_says_too_little_finds_several() -> None:
    assert Finder(["p1/a.png", "p2/a.png"]).find("a") == ["p1/a.png", "p2/a.png"]


def test_accents_match_in_any_unicode_form() -> None:
    decomposed = unicodedata.normalize("NFD", "Zoë.png")
    assert Finder([decomposed]).find("Zoë") == [decomposed]


def test_an_unknown_name_finds_nothing() -> None:
    assert Finder(["a.png"]).find("b") == []


PARTS = st.sampled_from(["a", "A", "a.png", "A.PNG", "a.jpg", "a.jpg.png", "b", "é.png", "e\u0301.png"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@settings(deadline=None)
@given(paths=st.lists(PATHS, unique=True, max_size=8), name=PATHS)
def test_every_path_that_ends_with_the_name_is_found_and_no_other(paths: list[str], name: str) -> None:
    ending = sorted(p for p in paths if p == name or p.endswith(f"/{name}"))
    found = Finder(paths).find(name)
    assert set(found) <= set(paths)
    assert not ending or found == ending


@settings(deadline=None)
@given(st.lists(PATHS, unique=True, max_size=8))
def test_a_folder_that_is_not_here_does_not_hide_a_path(paths: list[str]) -> None:
    finder = Finder(paths)
    assert [finder.find(f"elsewhere/{path}") for path in paths] == [[path] for path in paths]
