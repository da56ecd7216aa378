"""Conformance of a store backend; every backend is a parameter of the fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorruptError, UsageError
from infra.store import TEMPORARY, LocalStore, MissingObjectError, Store, open_store


@pytest.fixture(params=["local"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path / request.param)


def test_put_then_get(backend: Store) -> None:
    backend.put("a/b.bin", b"bytes")
    assert backend.get("a/b.bin") == b"bytes"


def test_put_replaces_whole(backend: Store) -> None:
    backend.put("a", b"long old text")
    backend.put("a", b"new")
    assert backend.get("a") == b"new"


def test_put_file_copies(backend: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    backend.put_file("big", source)
    assert backend.sizes("big") == {"big": 3_000_000}


def test_missing_object_is_named(backend: Store) -> None:
    with pytest.raises(MissingObjectError, match="no object nowhere/x"):
        backend.get("nowhere/x")


def test_read_gives_exactly_the_range(backend: Store) -> None:
    backend.put("a", b"0123456789")
    assert backend.read("a", 3, 4) == b"3456"


def test_read_past_the_end_is_corrupt(backend: Store) -> None:
    backend.put("a", b"0123456789")
    with pytest.raises(CorruptError, match="2 of 4 bytes at offset 8"):
        backend.read("a", 8, 4)


def test_sizes_lists_by_prefix_across_folders(backend: Store) -> None:
    backend.put("shards/one/a.tar", b"1")
    backend.put("shards/one/b.tar", b"22")
    backend.put("shards/two/a.tar", b"333")
    backend.put("shards-not", b"4")
    assert backend.sizes("shards/") == {"shards/one/a.tar": 1, "shards/one/b.tar": 2, "shards/two/a.tar": 3}
    assert backend.sizes("shards/one/a") == {"shards/one/a.tar": 1}


def test_sizes_of_nothing_is_empty(backend: Store) -> None:
    assert backend.sizes("nothing/") == {}


def test_delete_is_idempotent(backend: Store) -> None:
    backend.put("a", b"1")
    backend.delete("a")
    backend.delete("a")
    assert not backend.exists("a")


@pytest.mark.parametrize("name", ["", "/abs", "a/../b", "a//b", "./a"])
def test_names_that_leave_the_store_are_refused(backend: Store, name: str) -> None:
    with pytest.raises(UsageError):
        backend.put(name, b"")


def test_a_failed_put_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(TypeError):
        store.put("a", "text is no bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_no_object(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / f"{TEMPORARY}abc").write_bytes(b"half")
    assert store.sizes("") == {}


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(UsageError, match="ftp://"):
        open_store("ftp://host/x")
