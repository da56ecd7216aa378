"""Hashes of pictures by the digest of their files."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from infra.storage.store import LocalStore
from tasks.ingest.hash_cache import HashCache, erase_hashes

RECIPE = {"size": 64, "encode": "jpeg", "quality": 92, "crop": "none", "max_pixels": 100, "bits": 16}


def cache(store: LocalStore, private: bool = False, **changed: Any) -> HashCache:
    found = HashCache(store, "x", RECIPE | changed, private=private)
    found.load()
    return found


def filled(store: LocalStore, private: bool = False, **changed: Any) -> HashCache:
    found = cache(store, private, **changed)
    found.add({"a": b"1" * 32, "b": b"2" * 32})
    found.save()
    return found


def test_what_was_hashed_is_known(store: LocalStore) -> None:
    filled(store)
    assert (cache(store).get("a"), cache(store).get("c")) == (b"1" * 32, None)


def test_another_picture_of_a_file_has_another_hash(store: LocalStore) -> None:
    filled(store)
    for changed in ({"size": 32}, {"crop": "fundus"}, {"encode": "keep"}, {"mask": [[(0, 0), (0, 1), (1, 1)]]}):
        assert cache(store, **changed).get("a") is None
    assert cache(store, quality=50, encode="png").get("a") == b"1" * 32


def test_pictures_of_two_sizes_are_remembered_side_by_side(store: LocalStore) -> None:
    filled(store)
    other = cache(store, size=32)
    other.add({"a": b"3" * 32})
    other.save()
    assert (cache(store).get("a"), cache(store, size=32).get("a")) == (b"1" * 32, b"3" * 32)


def test_nothing_new_writes_nothing(store: LocalStore) -> None:
    cache(store).save()
    assert store.sizes("") == {}


def test_a_damaged_cache_is_an_empty_one(store: LocalStore) -> None:
    store.put("listings/x.hashes.parquet", b"broken")
    assert cache(store).get("a") is None


def test_a_private_corpus_has_a_cache_of_its_own(store: LocalStore) -> None:
    filled(store)
    assert cache(store, private=True).get("a") is None
    filled(store, private=True)
    # What was remembered before it was private goes.
    assert set(store.sizes("")) == {"listings/x.hashes.keyed.parquet"}


def test_erased_images_have_no_hash(store: LocalStore) -> None:
    for private in (False, True):
        filled(store, private)
        erase_hashes(store, "x", pa.table({"source_sha256": ["a", ""]}))
        assert (cache(store, private).get("a"), cache(store, private).get("b")) == (None, b"2" * 32)
