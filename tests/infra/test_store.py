"""Conformance of a store backend; every backend is a parameter of the fixture."""

from __future__ import annotations

import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import CorruptError, UsageError
from infra.storage.store import TEMPORARY, LocalStore, MissingObjectError, Store, open_store
from tests.s3server import S3Server


@pytest.fixture(params=["local", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3_server")
    return open_store(server.url(server.bucket(), "some/prefix"))


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
    with pytest.raises(MissingObjectError, match=r"no object .*nowhere/x"):
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


def test_put_new_writes_once(backend: Store) -> None:
    assert backend.put_new("secrets/a.key", b"first")
    assert not backend.put_new("secrets/a.key", b"second")
    assert backend.get("secrets/a.key") == b"first"


def test_ages_are_since_the_last_write(backend: Store) -> None:
    backend.put("shards/a.tar", b"1")
    backend.put("other", b"1")
    ages = backend.ages("shards/")
    assert list(ages) == ["shards/a.tar"]
    assert abs(ages["shards/a.tar"]) < 60


def test_a_stream_gives_all_bytes_and_seeks(backend: Store) -> None:
    backend.put("a.bin", b"0123456789")
    with backend.open("a.bin") as file:
        assert file.read() == b"0123456789"
        file.seek(4)
        assert file.read(2) == b"45"


@pytest.mark.parametrize("call", ["open", "read", "local_path"])
@pytest.mark.parametrize("name", ["nowhere/x", "nowhere/x-0123abcd.tar"])
def test_missing_object_is_named_by_every_reader(backend: Store, name: str, call: str) -> None:
    args = (0, 1) if call == "read" else ()
    with pytest.raises(MissingObjectError, match=f"no object .*{name}"):
        getattr(backend, call)(name, *args)


def test_a_local_path_has_the_bytes_of_now(backend: Store) -> None:
    backend.put("heads/x", b"one")
    assert backend.local_path("heads/x").read_bytes() == b"one"
    backend.put("heads/x", b"two")
    assert backend.local_path("heads/x").read_bytes() == b"two"


def test_a_folder_is_no_object(backend: Store) -> None:
    backend.put("a/b", b"1")
    assert not backend.exists("a")
    with pytest.raises(MissingObjectError):
        backend.get("a")


def test_an_empty_object_is_an_object(backend: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    backend.put_file("a", tmp_path / "empty")
    assert backend.get("a") == b""
    assert backend.sizes("") == {"a": 0}


@pytest.mark.parametrize("name", ["with space/ü+%&=?#.bin", "a=b/c@d~e.json", "x'(y)!*.txt"])
def test_unusual_names_are_names(backend: Store, name: str) -> None:
    backend.put(name, b"1")
    assert backend.get(name) == b"1"
    assert backend.sizes("") == {name: 1}


def test_the_address_opens_the_store_again(backend: Store) -> None:
    backend.put("a", b"1")
    assert open_store(backend.url).get("a") == b"1"
    assert pickle.loads(pickle.dumps(backend)).get("a") == b"1"
    assert open_store(backend.url).url == backend.url


def test_nothing_abandoned_in_a_tidy_store(backend: Store) -> None:
    backend.put("a", b"1")
    assert backend.abandoned(0) == []
    assert backend.sweep(0) == 0
    assert backend.exists("a")


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


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b", b"1")
    for name, age in [("old", 7200), ("young", 10)]:
        left = tmp_path / "a" / f"{TEMPORARY}{name}"
        left.write_bytes(b"half")
        os.utime(left, (left.stat().st_atime, left.stat().st_mtime - age))
    assert store.abandoned(3600) == [f"a/{TEMPORARY}old"]
    assert store.sweep(3600) == 1
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{TEMPORARY}young", "b"]


def test_of_writers_that_race_one_makes_the_new_object(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            tokens = [f"{turn}-{i}".encode() for i in range(8)]
            won = list(pool.map(lambda token, turn=turn: store.put_new(f"k{turn}", token), tokens))
            assert won.count(True) == 1
            assert store.get(f"k{turn}") == tokens[won.index(True)]


def _modes(folder: Path) -> set[str]:
    return {f"{stat.S_IMODE(path.stat().st_mode):o}" for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_store_is_for_its_owner_alone(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        store = LocalStore(tmp_path / "a" / "store")
        store.put("b/c/d", b"1")
        store.put_new("b/e", b"1")
    finally:
        os.umask(before)
    assert _modes(tmp_path / "a" / "store") == {"700", "600"}


def test_a_store_in_a_group_s_folder_is_shared_with_the_group(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    LocalStore(tmp_path).put("b/c", b"1")
    assert _modes(tmp_path) == {"2770", "660"}


def test_a_private_object_is_for_the_owner_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("secret", b"1")
    store.private("secret")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(UsageError, match="ftp://"):
        open_store("ftp://host/x")
