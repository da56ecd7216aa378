"""Hashing every file once."""

from __future__ import annotations

import os
from pathlib import Path

from infra.digest import sha256_bytes
from infra.store import LocalStore
from tasks.ingest.listing import Listing


def files(root: Path) -> list[str]:
    for name in "abc":
        (root / name).write_text(name)
    return ["a", "b", "c"]


def test_what_is_listed_is_not_hashed_again(tmp_path: Path, store: LocalStore) -> None:
    paths = files(tmp_path)
    first, second = Listing(store, "x"), None
    digests = first.digests(tmp_path, paths)
    second = Listing(store, "x")
    assert digests == {name: sha256_bytes(name.encode()) for name in paths}
    assert second.digests(tmp_path, paths) == digests
    assert (first.hashed, second.hashed) == (3, 0)


def test_a_changed_file_is_hashed_again(tmp_path: Path, store: LocalStore) -> None:
    paths = files(tmp_path)
    Listing(store, "x").digests(tmp_path, paths)
    (tmp_path / "b").write_text("B")
    os.utime(tmp_path / "b", ns=(1, 1))
    again = Listing(store, "x")
    assert again.digests(tmp_path, paths)["b"] == sha256_bytes(b"B")
    assert again.hashed == 1


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path, store: LocalStore) -> None:
    found = Listing(store, "x").digests(tmp_path, [*files(tmp_path), "gone"])
    assert isinstance(found["gone"], FileNotFoundError)
    assert found["a"] == sha256_bytes(b"a")


def test_a_dry_look_writes_nothing(tmp_path: Path, store: LocalStore) -> None:
    assert set(Listing(store, "x").digests(tmp_path, files(tmp_path), hash_new=False).values()) == {""}
    assert store.sizes("") == {}


def test_hidden_paths_do_not_reach_the_store(tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "jane-doe").write_text("x")
    Listing(store, "x").digests(tmp_path, ["jane-doe"], hide=lambda path: "hidden")
    assert b"jane" not in store.get("listings/x.parquet")
    assert Listing(store, "x").digests(tmp_path, ["jane-doe"], hide=lambda path: "hidden", hash_new=False) == {
        "jane-doe": sha256_bytes(b"x")
    }


def test_a_broken_listing_costs_only_time(tmp_path: Path, store: LocalStore) -> None:
    store.put("listings/x.parquet", b"broken")
    assert Listing(store, "x").digests(tmp_path, files(tmp_path))["a"] == sha256_bytes(b"a")
