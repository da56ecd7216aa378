"""Every fault between us and the server: the right bytes in the end, or an error that names the object."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import CorruptError, TransientError
from infra.storage.s3_client import Bucket
from infra.storage.s3_retry import ObjectChangedError
from infra.storage.s3_upload import uploads
from infra.storage.store import MissingObjectError, Store
from tests.infra.conftest import PART
from tests.s3server import FaultProxy, S3Server

DATA = bytes(range(256)) * 1000  # four parts
LONG = os.urandom(4 << 20)
SHA = hashlib.sha256(DATA).hexdigest()
SHARD = f"shards/train-00000-{SHA[:8]}.tar"
BUSY = ["429", "500", "502", "503"]
BROKEN = ["reset", "stall", "short", "wrong", "lost"]


def _all(store: Store, name: str) -> bytes:
    with store.open(name) as file:
        return file.read()


READERS: dict[str, Callable[[Store, str], bytes]] = {
    "get": lambda store, name: store.get(name),
    "read": lambda store, name: store.read(name, 0, len(DATA)),
    "local_path": lambda store, name: store.local_path(name).read_bytes(),
    "open": _all,
}


def _file(server: S3Server, bucket: str, name: str) -> Path:
    return server.file(bucket, f"p/{name}")


@pytest.fixture
def stored(s3_store: Store, s3_server: S3Server, bucket: str) -> str:
    """An object that was written by somebody else, without metadata."""
    path = _file(s3_server, bucket, SHARD)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return SHARD


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", [*BUSY, *BROKEN])
def test_a_fault_that_passes_leaves_the_right_bytes(
    shaky: Store, fault_proxy: FaultProxy, stored: str, fault: str, reader: str
) -> None:
    fault_proxy.fail(fault, "GET", f"p/{stored}", times=2)
    assert READERS[reader](shaky, stored) == DATA
    assert fault_proxy.count("GET", f"p/{stored}") == 3


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", ["503", "reset", "short"])
def test_a_fault_that_stays_names_the_object(
    shaky: Store, fault_proxy: FaultProxy, stored: str, fault: str, reader: str
) -> None:
    fault_proxy.fail(fault, "GET", f"p/{stored}", times=-1)
    with pytest.raises(TransientError, match=rf"s3://bucket-\d+/p/{stored}: .*attempt 6 of 6"):
        READERS[reader](shaky, stored)


@pytest.mark.parametrize("reader", READERS)
def test_bytes_that_stay_wrong_are_corrupt(shaky: Store, fault_proxy: FaultProxy, stored: str, reader: str) -> None:
    fault_proxy.fail("wrong", "GET", f"p/{stored}", times=-1)
    with pytest.raises(CorruptError, match=rf"s3://bucket-\d+/p/{stored}: bytes with md5"):
        READERS[reader](shaky, stored)


def test_bytes_that_are_wrong_in_the_last_attempt_are_corrupt(
    shaky: Store, fault_proxy: FaultProxy, stored: str
) -> None:
    fault_proxy.fail("503", "GET", times=4)
    fault_proxy.fail("wrong", "GET", times=-1)
    with pytest.raises(CorruptError, match="attempt 6 of 6"):
        shaky.get(stored)
    assert fault_proxy.count("GET") == 6


def test_a_range_survives_faults(shaky: Store, fault_proxy: FaultProxy) -> None:
    shaky.put("heads/x", b"0123456789")
    for fault in ["503", "reset", "stall", "short"]:
        fault_proxy.fail(fault, "GET", "p/heads/x")
    assert shaky.read("heads/x", 2, 5) == b"23456"


@pytest.mark.parametrize("fault", [*BUSY, "400", *BROKEN])
def test_a_put_through_a_fault_stores_the_right_bytes(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str, fault: str
) -> None:
    fault_proxy.fail(fault, "PUT", "p/a", times=2)
    shaky.put("a", DATA[:1000])
    assert _file(s3_server, bucket, "a").read_bytes() == DATA[:1000]


@pytest.mark.parametrize("fault", ["503", "400", "reset", "short", "wrong"])
def test_a_put_that_fails_leaves_what_was_there(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str, fault: str
) -> None:
    shaky.put("heads/x", b"old")
    fault_proxy.fail(fault, "PUT", "p/*", times=-1)
    with pytest.raises(TransientError, match=r"s3://bucket-\d+/p/heads/x: "):
        shaky.put("heads/x", b"new")
    with pytest.raises(TransientError, match=r"s3://bucket-\d+/p/fresh: "):
        shaky.put("fresh", b"new")
    assert _file(s3_server, bucket, "heads/x").read_bytes() == b"old"
    assert not _file(s3_server, bucket, "fresh").exists()


@pytest.mark.parametrize("part", [1, 3])
@pytest.mark.parametrize("fault", [*BUSY, "400", *BROKEN])
def test_an_upload_in_parts_survives_a_fault(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str, tmp_path: Path, fault: str, part: int
) -> None:
    (tmp_path / "big").write_bytes(DATA)
    fault_proxy.fail(fault, "PUT", "p/big", query=f"partNumber={part}")
    shaky.put_file("big", tmp_path / "big")
    assert _file(s3_server, bucket, "big").read_bytes() == DATA
    assert uploads(Bucket.of(s3_server.url(bucket))[0], "") == []


@pytest.mark.parametrize("fault", ["503", "400", "reset", "short", "wrong"])
def test_an_upload_in_parts_that_fails_leaves_nothing(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "big").write_bytes(DATA)
    fault_proxy.fail(fault, "PUT", "p/big", query="partNumber=2", times=-1)
    with pytest.raises(TransientError, match=r"s3://bucket-\d+/p/big: "):
        shaky.put_file("big", tmp_path / "big")
    assert uploads(Bucket.of(s3_server.url(bucket))[0], "") == []
    assert not _file(s3_server, bucket, "big").exists()


@pytest.mark.parametrize("fault", [*BUSY, "reset", "stall", "lost"])
@pytest.mark.parametrize("query", ["uploads", "uploadId"])
def test_begin_and_end_of_an_upload_survive_a_fault(
    shaky: Store,
    fault_proxy: FaultProxy,
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
    fault: str,
    query: str,
) -> None:
    (tmp_path / "big").write_bytes(DATA)
    fault_proxy.fail(fault, "POST", "p/big", query=query)
    shaky.put_file("big", tmp_path / "big")
    assert _file(s3_server, bucket, "big").read_bytes() == DATA


@pytest.mark.parametrize("fault", [*BUSY, "reset", "stall", "short", "lost"])
def test_a_listing_survives_a_fault(shaky: Store, fault_proxy: FaultProxy, fault: str) -> None:
    shaky.put("a", b"1")
    fault_proxy.fail(fault, "GET", "", query="list-type=2")
    assert shaky.sizes("") == {"a": 1}


@pytest.mark.parametrize("fault", [*BUSY, "reset", "lost"])
def test_asking_and_deleting_survive_a_fault(shaky: Store, fault_proxy: FaultProxy, fault: str) -> None:
    shaky.put("a", b"1")
    fault_proxy.fail(fault, "HEAD", "p/a")
    fault_proxy.fail(fault, "DELETE", "p/a")
    assert shaky.exists("a")
    shaky.delete("a")
    assert not shaky.exists("a")


@pytest.fixture
def long_stream(s3_server: S3Server, fault_proxy: FaultProxy, bucket: str, impatient: None) -> Bucket:
    """A bucket with `long`, 4 MiB, whose first answer ends in the middle."""
    s3_server.file(bucket, "long").write_bytes(LONG)
    fault_proxy.fail("short", "GET", "long")
    return Bucket.of(s3_server.url(bucket, endpoint=fault_proxy.endpoint))[0]


def test_a_stream_that_breaks_goes_on_where_it_stopped(long_stream: Bucket) -> None:
    assert b"".join(long_stream.stream("long")) == LONG


def test_a_stream_does_not_go_on_in_another_object(long_stream: Bucket, s3_server: S3Server, bucket: str) -> None:
    stream = long_stream.stream("long")
    next(stream)
    s3_server.file(bucket, "long").write_bytes(LONG[::-1])
    with pytest.raises(ObjectChangedError, match=r"s3://bucket-\d+/long: changed"):
        list(stream)


def test_a_deleted_object_is_missing_and_not_retried(shaky: Store, fault_proxy: FaultProxy) -> None:
    with pytest.raises(MissingObjectError, match="p/nothing"):
        shaky.get("nothing")
    assert fault_proxy.count("GET") == 1


def test_each_part_is_sent_once(shaky: Store, fault_proxy: FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(DATA)
    shaky.put_file("big", tmp_path / "big")
    assert fault_proxy.count("PUT", "p/big") == -(-len(DATA) // PART)
