"""Hashing every file once."""

from __future__ import annotations

import io
import os
from pathlib import Path
from unittest.mock import ANY

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.digest import sha256_bytes
from infra.storage.store import LocalStore
from tasks.ingest.digest_cache import DigestCache
from tasks.ingest.keys import KeyedHasher
from tasks.sources.folder import FolderSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def files(root: Path) -> FolderSource:
    for name in "abc":
        (root / name).write_text(name)
    return FolderSource(str(root))


def digests(listing: DigestCache, source: FolderSource, **options: object) -> dict[str, str]:
    found, faults = listing.digests(source, source.files(), **options)  # type: ignore[arg-type]
    assert not faults
    return dict(zip(source.files()["path"].to_pylist(), found.to_pylist(), strict=True))


ALL = {name: sha256_bytes(name.encode()) for name in "abc"}


def test_what_is_listed_is_not_hashed_again(root: Path, store: LocalStore) -> None:
    source = files(root)
    first = DigestCache(store, "x")
    assert digests(first, source) == ALL
    second = DigestCache(store, "x")
    assert digests(second, source) == ALL
    assert (first.hashed, second.hashed) == (3, 0)


def test_a_changed_file_is_hashed_again(root: Path, store: LocalStore) -> None:
    digests(DigestCache(store, "x"), files(root))
    (root / "b").write_text("B")
    os.utime(root / "b", ns=(1, 1))
    again = DigestCache(store, "x")
    assert digests(again, FolderSource(str(root)))["b"] == sha256_bytes(b"B")
    assert again.hashed == 1


def test_a_file_that_cannot_be_read_is_reported_alone(root: Path, store: LocalStore) -> None:
    source = files(root)
    gone = pa.table({"path": ["gone"], "size": [1], "stamp": ["f:1"]})
    listed = pa.concat_tables([source.files(), gone])
    found, faults = DigestCache(store, "x").digests(source, listed)
    assert {row: error.strerror for row, error in faults.items()} == {3: "No such file or directory"}
    assert found.to_pylist() == [*ALL.values(), ""]


def test_a_dry_look_writes_nothing(root: Path, store: LocalStore) -> None:
    assert set(digests(DigestCache(store, "x"), files(root), hash_new=False).values()) == {""}
    assert store.sizes("") == {}


def test_of_a_private_corpus_neither_paths_nor_sizes_nor_digests_reach_the_store(root: Path, store: LocalStore) -> None:
    (root / "jane-doe").write_text("x" * 12345)
    source, hasher = FolderSource(str(root)), KeyedHasher(b"1" * 32)
    found = digests(DigestCache(store, "x", hasher), source)
    known = pq.read_table(io.BytesIO(store.get("listings/x.keyed.parquet"))).to_pylist()
    assert found == {"jane-doe": hasher.digest(sha256_bytes(b"x" * 12345))}
    assert known == [{"path": ANY, "size": 0, "stamp": ANY, "sha256": found["jane-doe"]}]
    assert "jane-doe" not in str(known)
    assert digests(DigestCache(store, "x", hasher), source, hash_new=False) == found


def test_a_private_file_of_another_length_is_hashed_again(root: Path, store: LocalStore) -> None:
    source, hasher = files(root), KeyedHasher(b"1" * 32)
    digests(DigestCache(store, "x", hasher), source)
    again = DigestCache(store, "x", hasher)
    times = os.stat(root / "b").st_mtime_ns
    (root / "b").write_text("longer")
    os.utime(root / "b", ns=(times, times))
    digests(again, FolderSource(str(root)))
    assert again.hashed == 1


def test_digests_of_an_earlier_release_that_are_not_keyed_go(root: Path, store: LocalStore) -> None:
    source = files(root)
    digests(DigestCache(store, "x"), source)
    digests(DigestCache(store, "x", KeyedHasher(b"1" * 32)), source)
    assert set(store.sizes("listings/")) == {"listings/x.keyed.parquet"}


def test_a_broken_listing_costs_only_time(root: Path, store: LocalStore) -> None:
    store.put("listings/x.parquet", b"broken")
    assert digests(DigestCache(store, "x"), files(root)) == ALL
