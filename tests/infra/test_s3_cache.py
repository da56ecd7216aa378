"""Copies on this machine: right for ever, bounded, shared."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from infra.errors import UsageError
from infra.settings import reload_settings
from infra.storage.protocol import TEMPORARY
from infra.storage.s3_cache import Cache, digest_in
from infra.storage.store import Store, open_store
from tests.s3server import FaultProxy, S3Server

SIZE = 1000


def _data(number: int) -> bytes:
    return bytes([number]) * SIZE


def _shard(data: bytes) -> str:
    return f"shards/train-00000-{hashlib.sha256(data).hexdigest()[:8]}.tar"


def _where(number: int) -> str:
    return f"http://host/bucket/{number}-{hashlib.sha256(_data(number)).hexdigest()[:8]}.tar"


def _fetch(data: bytes) -> Callable[[BinaryIO], str]:
    def fetch(file: BinaryIO) -> str:
        file.write(data)
        return hashlib.sha256(data).hexdigest()

    return fetch


def _use(cache: Cache, number: int) -> None:
    """Read the object of that number through the cache."""
    with cache.open(_where(number), _fetch(_data(number))) as file:
        assert file.read() == _data(number)


def _age(cache: Cache, number: int, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(cache.path(_where(number)), (then, then))


def _copies(folder: Path) -> int:
    return sum(path.name != ".lock" for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "digits"),
    [
        ("shards/x/train-00001-0123abcd.tar", "0123abcd"),
        ("weights/x/" + "a1" * 32 + ".parquet", "a1" * 32),
        ("catalogs/x/catalog-0123abcd.parquet", "0123abcd"),
        ("heads/eyepacs", ""),
        ("listings/eyepacs.parquet", ""),
        ("shards/x/_info.json", ""),
        ("models/x/history-0123abc.json", ""),
        ("deadbeef/a.tar", ""),
        ("a/x0123abcd.tar", ""),
    ],
)
def test_a_name_with_a_digest_is_known(name: str, digits: str) -> None:
    assert digest_in(name) == digits


def test_a_shard_is_fetched_once(shaky: Store, fault_proxy: FaultProxy) -> None:
    data = _data(1)
    name = _shard(data)
    shaky.put(name, data)
    assert shaky.read(name, 10, 5) == data[10:15]
    assert shaky.read(name, 500, 5) == data[500:505]
    with shaky.open(name) as file:
        assert file.read() == data
    assert shaky.local_path(name).read_bytes() == data
    assert fault_proxy.count("GET") == 1


def test_a_second_store_finds_the_copies_of_the_first(shaky: Store, fault_proxy: FaultProxy) -> None:
    data = _data(2)
    shaky.put(_shard(data), data)
    shaky.read(_shard(data), 0, 1)
    assert open_store(shaky.url).read(_shard(data), 0, 1) == data[:1]
    assert fault_proxy.count("GET") == 1


def test_a_copy_is_passed_over_on_request(shaky: Store, s3_server: S3Server, bucket: str) -> None:
    data = _data(3)
    name = _shard(data)
    shaky.put(name, data)
    shaky.read(name, 0, 1)
    s3_server.file(bucket, f"p/{name}").write_bytes(b"rotten")
    with shaky.open(name) as file:
        assert file.read() == data
    with shaky.open(name, cached=False) as file:
        assert file.read() == b"rotten"
    assert shaky.read(name, 0, 6, cached=False) == b"rotten"


def test_what_does_not_prove_its_name_is_not_kept(shaky: Store, fault_proxy: FaultProxy) -> None:
    name = _shard(_data(4))
    shaky.put(name, b"other bytes")
    assert shaky.local_path(name).read_bytes() == b"other bytes"
    shaky.put(name, _data(4))
    assert shaky.read(name, 0, SIZE) == _data(4)
    assert shaky.local_path(name).read_bytes() == _data(4)


def test_a_deleted_object_has_no_copy(shaky: Store) -> None:
    data = _data(5)
    shaky.put(_shard(data), data)
    copy = shaky.local_path(_shard(data))
    shaky.delete(_shard(data))
    assert not copy.exists()


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 4 * SIZE)
    for number in range(4):
        _use(cache, number)
        _age(cache, number, 1000 - number)
    _use(cache, 0)  # now the newest
    _use(cache, 9)
    there = [number for number in (0, 1, 2, 3, 9) if cache.path(_where(number)).exists()]
    assert there == [0, 3, 9]


def test_the_bound_holds(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10 * SIZE)
    for number in range(100):
        _use(cache, number)
        assert _copies(tmp_path) <= 10


def test_an_open_file_survives_eviction(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SIZE)
    with cache.open(_where(1), _fetch(_data(1))) as file:
        _age(cache, 1, 1000)
        _use(cache, 2)
        assert not cache.path(_where(1)).exists()
        assert file.read() == _data(1)


def test_an_evicted_object_is_fetched_again(shaky: Store, fault_proxy: FaultProxy) -> None:
    data = _data(6)
    shaky.put(_shard(data), data)
    shaky.local_path(_shard(data)).unlink()
    assert shaky.read(_shard(data), 0, 4) == data[:4]
    assert fault_proxy.count("GET") == 2


def test_a_failed_fetch_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SIZE)

    def fetch(file: BinaryIO) -> str:
        file.write(b"half")
        raise ConnectionAbortedError("gone")

    with pytest.raises(UsageError, match="STILLROOM_CACHE"):
        cache.open(_where(1), fetch)
    assert _copies(tmp_path) == 0


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10 * SIZE)
    folder = cache.path(_where(1)).parent
    folder.mkdir(parents=True)
    for name, age in [("old", 7200), ("young", 10)]:
        left = folder / f"{TEMPORARY}{name}"
        left.touch()
        os.utime(left, (time.time() - age, time.time() - age))
    _use(cache, 1)
    assert sorted(path.name for path in folder.glob(f"{TEMPORARY}*")) == [f"{TEMPORARY}young"]


def test_a_folder_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="STILLROOM_CACHE"):
        _use(Cache(tmp_path / "file", SIZE), 1)


def test_processes_that_want_the_same_object_fetch_it_once(
    shaky: Store, fault_proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3_000_000)
    name = _shard(data)
    shaky.put(name, data)
    code = f"""
import hashlib
from infra.storage.store import open_store
store = open_store({shaky.url!r})
for _ in range(50):
    with store.open({name!r}) as file:
        assert hashlib.sha256(file.read()).hexdigest()[:8] in {name!r}
"""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    readers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [reader.wait(timeout=120) for reader in readers] == [0, 0, 0, 0]
    assert fault_proxy.count("GET") == 1


def test_processes_share_a_cache_too_small_for_their_objects(
    shaky: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [os.urandom(20_000) for _ in range(8)]
    names = [_shard(data) for data in objects]
    for name, data in zip(names, objects, strict=True):
        shaky.put(name, data)
    code = f"""
import hashlib, random
from infra.storage.store import open_store
store = open_store({shaky.url!r})
for _ in range(60):
    name = random.choice({names!r})
    assert hashlib.sha256(store.read(name, 0, 20_000)).hexdigest()[:8] in name
"""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STILLROOM_CACHE_GB", "0.00005")
    readers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [reader.wait(timeout=120) for reader in readers] == [0, 0, 0]


def test_the_folder_is_that_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("STILLROOM_CACHE_GB", "2")
    reload_settings()
    cache = Cache.of_settings()
    monkeypatch.undo()
    reload_settings()
    assert (cache.folder, cache.bound) == (tmp_path / "elsewhere", 2_000_000_000)
