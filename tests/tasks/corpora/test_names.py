"""Finding the file that a table means."""

from __future__ import annotations

import unicodedata

import pytest

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
