"""Keys of images."""

from __future__ import annotations

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest.keys import KeyedHasher, assign_keys, safe_key


def keys_of(images: list[tuple[str, str]], known: dict[str, str]) -> list[str]:
    """Keys of (path, name) pairs, given those of an earlier ingest."""
    text = (
        [pa.array(column, pa.string()) for column in (*zip(*images, strict=True),)]
        if images
        else [pa.array([], pa.string())] * 2
    )
    return assign_keys(
        *text, pa.array(list(known), pa.string()), pa.array(list(known.values()), pa.string())
    ).to_pylist()


NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=120)


@given(st.lists(st.tuples(st.sampled_from(["a", "b/c"]), NAMES), unique=True, max_size=12))
def test_keys_are_unique_plain_and_short(images: list[tuple[str, str]]) -> None:
    keys = keys_of([(f"{folder}/{name}.png", name) for folder, name in images], {})
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,89}", key) for key in keys)


@given(st.permutations(["x/a", "y/a", "y/b", "z/é", "z/e.1"]))
def test_keys_do_not_depend_on_the_order(paths: list[str]) -> None:
    straight = ["x/a", "y/a", "y/b", "z/é", "z/e.1"]
    expected = dict(zip(straight, keys_of([(p, p[2:]) for p in straight], {}), strict=True))
    assert dict(zip(paths, keys_of([(p, p[2:]) for p in paths], {}), strict=True)) == expected


def test_a_plain_name_is_its_own_key() -> None:
    assert safe_key("10_left") == "10_left"


def test_odd_names_get_a_readable_key_of_their_own() -> None:
    keys = {safe_key(name) for name in ("Zoë 1.2", "Zoe 1.2", "Zoe-1-2")}
    assert len(keys) == 3
    assert all(key.startswith("Zoe-1-2") for key in keys)


def test_a_key_once_given_is_kept() -> None:
    known = {"y/a.png": "a"}
    keys = keys_of([("x/a.png", "a"), ("y/a.png", "a")], known)
    assert keys[1] == "a"
    assert keys[0].startswith("a-")


def test_a_key_that_an_image_of_an_earlier_ingest_has_is_not_given_again() -> None:
    known = {"y/a.png": "a", "z/b.png": "a-" + keys_of([("x/a.png", "a"), ("w/a.png", "a")], {})[0][2:]}
    keys = keys_of([("x/a.png", "a"), ("w/a.png", "a"), ("y/a.png", "a")], known)
    assert len({*keys, *known.values()}) == 4


def test_keyed_hashes_are_equal_only_with_one_secret() -> None:
    one, other = KeyedHasher(b"1" * 32), KeyedHasher(b"2" * 32)
    assert one.hash("patient", "7") == one.hash("patient", "7")
    assert len({one.hash("patient", "7"), other.hash("patient", "7"), one.hash("path", "7")}) == 3
    assert one.hash("patient", "") == ""
