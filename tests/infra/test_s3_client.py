"""Addresses, listings, ranges and streams of a bucket, and what its refusals say."""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys

import pytest

from infra.errors import CorruptError, TransientError, UsageError
from infra.storage.s3_address import Address, parse
from infra.storage.s3_client import Bucket
from infra.storage.s3_retry import ObjectChangedError
from infra.storage.store import MissingObjectError, open_store
from tests.s3server import FaultProxy, S3Server

DATA = bytes(range(256)) * 5000  # more than a block


@pytest.fixture
def source(s3_server: S3Server, bucket: str) -> Bucket:
    """A bucket with three objects that nobody wrote through us."""
    for key, data in {"a/one.jpg": DATA, "a/two.jpg": b"22", "b/three.jpg": b"333"}.items():
        path = s3_server.file(bucket, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Bucket.of(s3_server.url(bucket))[0]


def test_an_address_is_taken_apart() -> None:
    text = "s3://my-bucket/some/prefix/?endpoint=http://host:9000/&region=eu-west-1"
    address, prefix = parse(text)
    assert (address, prefix) == (Address("my-bucket", "http://host:9000", "eu-west-1"), "some/prefix")
    assert parse(address.url(prefix)) == (address, prefix)


PLANTED = "pLanted-s3cret"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://bucket/p?endpoint=http://user:{PLANTED}@host:9000",
        f"s3://bucket/p?endpoint=http%3A%2F%2Fuser%3A{PLANTED}%40host:9000",
        f"s3://bucket/p?endpoint=http://{PLANTED}@host",
        f"s3://bucket/p?endpoint=user:{PLANTED}@host",
        f"s3://bucket/p?aws_secret_access_key={PLANTED}",
        f"s3://bucket/p?region={PLANTED}@x",
        f"s3://bucket/p?style={PLANTED}",
        f"s3://user:{PLANTED}@bucket/p",
        f"s3://bucket/p?X-Amz-Signature={PLANTED}",
        f"https://user:{PLANTED}@host/p",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_store(text)
    assert PLANTED not in str(refused.value)


def test_a_secret_in_the_environment_s_endpoint_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://user:{PLANTED}@minio.example")
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL holds more than") as refused:
        parse("s3://b-1/p")
    assert PLANTED not in str(refused.value)


def test_an_address_carries_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example")
    address, prefix = parse("s3://b-1/p")
    assert address.url(prefix) == "s3://b-1/p?endpoint=https://minio.example"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("s3://", "no name of a bucket"),
        ("s3://b-1/a//b", "empty"),
        ("s3://b-1/a/../b", "empty, '.' or '..'"),
        ("s3://b-1/?endpoint=host:9000", "http://"),
        ("s3://b-1/?zone=x", "unknown 'zone'"),
        ("s3://b-1/?style=odd", "path, virtual"),
    ],
)
def test_a_wrong_address_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        parse(text)


def test_a_listing_has_key_size_and_etag(source: Bucket) -> None:
    rows = list(source.list("a/"))
    assert [(row.key, row.size) for row in rows] == [("a/one.jpg", len(DATA)), ("a/two.jpg", 2)]
    assert rows[1].etag == hashlib.md5(b"22").hexdigest()


def test_a_listing_goes_on_after_a_thousand(s3_server: S3Server, bucket: str) -> None:
    folder = s3_server.file(bucket, "many")
    folder.mkdir()
    for i in range(2345):
        (folder / f"{i:04d}").touch()
    keys = [row.key for row in Bucket.of(s3_server.url(bucket))[0].list("many/")]
    assert keys == [f"many/{i:04d}" for i in range(2345)]


@pytest.mark.parametrize(("start", "size"), [(0, 10), (1000, 300), (None, 7), (len(DATA) - 5, None), (3, 0)])
def test_a_range_has_exactly_its_bytes(source: Bucket, start: int | None, size: int | None) -> None:
    first = start or 0
    wanted = DATA[first:] if size is None else DATA[first : first + size]
    assert source.get("a/one.jpg", start=start, size=size) == wanted


@pytest.mark.parametrize("start", [len(DATA) - 5, len(DATA) + 5])
def test_a_range_past_the_end_is_corrupt(source: Bucket, start: int) -> None:
    with pytest.raises(CorruptError, match=r"a/one\.jpg"):
        source.get("a/one.jpg", start=start, size=10)


@pytest.mark.parametrize("size", [None, 1])
def test_an_object_that_changed_is_noticed_by_its_etag(source: Bucket, s3_server: S3Server, size: int | None) -> None:
    etag = next(iter(source.list("a/two"))).etag
    assert source.get("a/two.jpg", size=size, etag=etag) == b"22"[:size]
    s3_server.file(source.name, "a/two.jpg").write_bytes(b"other")
    with pytest.raises(ObjectChangedError, match=r"a/two\.jpg"):
        source.get("a/two.jpg", size=size, etag=etag)


def test_stream_download_and_sha256_agree(source: Bucket) -> None:
    file = io.BytesIO(b"what was there before")
    assert source.download("a/one.jpg", file) == hashlib.sha256(DATA).hexdigest()
    assert file.getvalue() == DATA
    assert source.sha256("a/one.jpg") == hashlib.sha256(DATA).hexdigest()
    blocks = list(source.stream("a/one.jpg"))
    assert b"".join(blocks) == DATA
    assert max(map(len, blocks)) <= 1 << 20


def test_a_bucket_travels(source: Bucket) -> None:
    assert pickle.loads(pickle.dumps(source)).get("a/two.jpg") == b"22"
    assert len(pickle.dumps(source)) < 300


def test_a_forked_child_reads_by_a_connection_of_its_own(source: Bucket) -> None:
    code = f"""
import os
from infra.storage.s3_client import Bucket
bucket, _ = Bucket.of({source.address.url("")!r})
assert bucket.get("a/two.jpg") == b"22"
mine = bucket.client
child = os.fork()
if child == 0:
    os._exit(0 if bucket.client is not mine and bucket.get("b/three.jpg") == b"333" else 1)
assert bucket.get("a/two.jpg") == b"22"
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_object_is_named(source: Bucket) -> None:
    with pytest.raises(MissingObjectError, match="no object a/nothing"):
        source.get("a/nothing")


def test_a_missing_bucket_is_named(s3_server: S3Server) -> None:
    with pytest.raises(UsageError, match="s3://no-such-bucket/a: there is no such bucket"):
        Bucket.of(s3_server.url("no-such-bucket"))[0].get("a")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_name_the_variables(source: Bucket, variable: str) -> None:
    code = f"""
import os
os.environ[{variable!r}] = "wrong"
from infra.errors import UsageError
from infra.storage.s3_client import Bucket
try:
    Bucket.of({source.address.url("")!r})[0].get("a/two.jpg")
except UsageError as error:
    assert "AWS_SECRET_ACCESS_KEY" in str(error) and "a/two.jpg" in str(error), error
else:
    raise SystemExit(1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_keys_at_all_name_the_variables(source: Bucket) -> None:
    code = f"""
import os
del os.environ["AWS_ACCESS_KEY_ID"]
from infra.errors import UsageError
from infra.storage.s3_client import Bucket
try:
    Bucket.of({source.address.url("")!r})[0].get("a/two.jpg")
except UsageError as error:
    assert "AWS_ACCESS_KEY_ID" in str(error), error
else:
    raise SystemExit(1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_policy_that_refuses_is_not_retried(s3_server: S3Server, source: Bucket, fault_proxy: FaultProxy) -> None:
    fault_proxy.fail("403", "GET", "a/two.jpg", times=-1)
    with pytest.raises(UsageError, match="AccessDenied"):
        Bucket.of(s3_server.url(source.name, endpoint=fault_proxy.endpoint))[0].get("a/two.jpg")
    assert fault_proxy.count("GET") == 1


def test_a_server_that_is_away_is_transient() -> None:
    with pytest.raises(TransientError, match=r"s3://b-1/a: .*attempt 6 of 6"):
        Bucket.of("s3://b-1?endpoint=http://127.0.0.1:9")[0].get("a")


def test_a_folder_store_costs_no_import_of_boto3() -> None:
    code = (
        "import sys; from infra.storage.store import open_store; open_store('x'); sys.exit('botocore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
