"""Uploads: in parts, checked where the server checks nothing, and nothing left of those that died."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from infra.errors import CorruptError, TransientError
from infra.settings import reload_settings
from infra.storage.s3_client import Bucket
from infra.storage.store import Store, open_store
from tests.infra.conftest import PART
from tests.s3server import FaultProxy, S3Server

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that asks for no keys, so that a proxy can take the digests out of a request."""
    server = S3Server(tmp_path_factory.mktemp("lenient"), keys=False)
    yield server
    server.close()


@pytest.fixture(scope="module")
def _before_lenient(lenient: S3Server) -> Iterator[FaultProxy]:
    proxy = FaultProxy(lenient.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def gullible(_before_lenient: FaultProxy) -> FaultProxy:
    """The proxy before the lenient server, without rules."""
    _before_lenient.clear()
    return _before_lenient


def _store(server: S3Server, bucket: str, proxy: FaultProxy) -> Store:
    return open_store(server.url(bucket, "p", endpoint=proxy.endpoint))


def test_the_sha256_travels_with_the_object(s3_server: S3Server, s3_store: Store, bucket: str) -> None:
    store = open_store(s3_server.url(bucket))
    store.put("a", DATA)
    stored = Bucket.of(store.url)[0].head("a")
    assert (stored.algorithm, stored.digest) == ("sha256", hashlib.sha256(DATA).hexdigest())


def test_damage_that_the_server_does_not_notice_is_mended(lenient: S3Server, gullible: FaultProxy) -> None:
    bucket = lenient.bucket()
    gullible.fail("unchecked", "PUT", "p/a", times=2)
    _store(lenient, bucket, gullible).put("a", DATA)
    assert lenient.file(bucket, "p/a").read_bytes() == DATA
    assert gullible.count("PUT", "p/a") == 3


def test_damage_that_stays_leaves_no_wrong_object(lenient: S3Server, gullible: FaultProxy) -> None:
    bucket = lenient.bucket()
    gullible.fail("unchecked", "PUT", "p/a", times=-1)
    with pytest.raises(TransientError, match=r"s3://bucket-\d+/p/a: the server stored bytes with md5"):
        _store(lenient, bucket, gullible).put("a", DATA)
    assert not lenient.file(bucket, "p/a").exists()


def test_a_damaged_part_that_the_server_takes_is_mended(
    lenient: S3Server, gullible: FaultProxy, impatient: None, tmp_path: Path
) -> None:
    bucket = lenient.bucket()
    (tmp_path / "big").write_bytes(DATA)
    gullible.fail("unchecked", "PUT", "p/big", query="partNumber=2")
    _store(lenient, bucket, gullible).put_file("big", tmp_path / "big")
    assert lenient.file(bucket, "p/big").read_bytes() == DATA


def test_a_damaged_part_that_stays_leaves_no_object(
    lenient: S3Server, gullible: FaultProxy, impatient: None, tmp_path: Path
) -> None:
    bucket = lenient.bucket()
    (tmp_path / "big").write_bytes(DATA)
    gullible.fail("unchecked", "PUT", "p/big", query="partNumber=2", times=-1)
    with pytest.raises(TransientError, match=r"s3://bucket-\d+/p/big: "):
        _store(lenient, bucket, gullible).put_file("big", tmp_path / "big")
    assert not lenient.file(bucket, "p/big").exists()
    assert not [r for r in gullible.requests if r.method == "POST" and "uploadId" in r.query]  # none was completed


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
def test_sizes_around_a_part(shaky: Store, s3_server: S3Server, bucket: str, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(DATA[:size])
    shaky.put_file("a", tmp_path / "file")
    assert s3_server.file(bucket, "p/a").read_bytes() == DATA[:size]


def test_bytes_larger_than_a_part_go_in_parts_too(shaky: Store, fault_proxy: FaultProxy) -> None:
    shaky.put("a", DATA)
    assert fault_proxy.count("PUT", "p/a") == -(-len(DATA) // PART)
    assert shaky.get("a") == DATA


def test_an_upload_whose_last_answer_is_lost_is_not_sent_again(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    fault_proxy.fail("lost", "POST", "p/a", query="uploadId")
    shaky.put("a", DATA)
    assert s3_server.file(bucket, "p/a").read_bytes() == DATA
    assert fault_proxy.count("PUT", "p/a") == -(-len(DATA) // PART)


def test_parts_that_the_server_puts_together_wrongly_are_sent_again(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    made = s3_server.file(bucket, "p/a")
    fault_proxy.fail(lambda: made.write_bytes(DATA[:PART]), "POST", "p/a", query="uploadId")
    shaky.put("a", DATA)
    assert made.read_bytes() == DATA


def test_parts_that_the_server_always_puts_together_wrongly_make_no_object(
    shaky: Store, fault_proxy: FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    made = s3_server.file(bucket, "p/a")
    fault_proxy.fail(lambda: made.write_bytes(DATA[:PART]), "POST", "p/a", -1, query="uploadId")
    with pytest.raises(TransientError, match=r"p/a: the server made 65536 bytes"):
        shaky.put("a", DATA)
    assert not made.exists()


def _changing(path: Path, before: bytes, after: bytes) -> Path:
    """A file that holds `before` when it is read first and `after` from then on."""

    class Changing(type(path)):  # type: ignore[misc]
        def open(self, *args: object, **kwargs: object) -> BinaryIO:  # type: ignore[override]
            content = path.read_bytes()
            path.write_bytes(after)
            return io.BytesIO(content)

    path.write_bytes(before)
    return Changing(path)


@pytest.mark.parametrize("size", [PART // 2, len(DATA)])
@pytest.mark.parametrize("change", [lambda data: data[:-1] + b"!", lambda data: data[:-1], lambda data: data[:PART]])
def test_a_file_that_changes_meanwhile_is_refused(
    shaky: Store, s3_server: S3Server, bucket: str, tmp_path: Path, size: int, change: Callable[[bytes], bytes]
) -> None:
    before = DATA[:size]
    after = change(before) if change(before) != before else b""
    with pytest.raises(CorruptError, match=r"p/a: the file changes while it is uploaded"):
        shaky.put_file("a", _changing(tmp_path / "file", before, after))
    assert not s3_server.file(bucket, "p/a").exists()


def test_a_file_that_grows_meanwhile_is_stored_as_it_was(
    shaky: Store, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    shaky.put_file("a", _changing(tmp_path / "file", DATA, DATA + DATA))
    assert s3_server.file(bucket, "p/a").read_bytes() == DATA


def test_an_upload_that_died_is_listed_and_swept(s3_server: S3Server, s3_store: Store) -> None:
    bucket, prefix = Bucket.of(s3_store.url)
    for key in (f"{prefix}/models/big.bin", "elsewhere/big.bin"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    assert s3_store.abandoned(3600) == []
    assert [name.partition(" ")[0] for name in s3_store.abandoned(-60)] == ["models/big.bin"]
    assert s3_store.sweep(3600) == 0
    assert s3_store.sweep(-60) == 1
    left = bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    assert [upload["Key"] for upload in left] == ["elsewhere/big.bin"]


def test_memory_holds_some_blocks_and_not_the_file(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_S3_PART", str(1 << 20))
    reload_settings()
    with (tmp_path / "big").open("wb") as file:
        file.truncate(64 << 20)
    s3_store.put("warm", b"")
    tracemalloc.start()
    s3_store.put_file("big", tmp_path / "big")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    monkeypatch.undo()
    reload_settings()
    assert peak < 16 << 20  # some blocks for each of the parts that are sent at the same time
    assert s3_store.sizes("big") == {"big": 64 << 20}
