"""Writing to a bucket: whole objects, or parts in parallel by boto3's transfer manager; nothing is left half done.

The manager has neither our retries nor a check for servers that store other bytes than they were sent, so it sends
its requests through `_CheckedClient`. Content-MD5 goes with every body: a server that checks it refuses a damaged one.
For servers that do not, a plain md5 ETag in the response is compared. The sha256 of the whole object becomes metadata
for readers.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from botocore.exceptions import ClientError
from s3transfer import upload as transfer
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from infra.errors import CorruptError, PermanentError, StillroomError
from infra.settings import settings
from infra.storage.s3_client import BLOCK, SHA256, Bucket, ObjectChecksum, is_md5, plain_etag
from infra.storage.s3_retry import FAULTS, NotStoredError, ObjectChangedError

PARALLEL = 4  # parts of an object that are sent at the same time
_REQUESTS = {"create_multipart_upload", "complete_multipart_upload", "abort_multipart_upload"}


class Upload(NamedTuple):
    """A multipart upload that was neither completed nor aborted."""

    key: str
    id: str
    age: float  # seconds, by this machine's clock


@dataclass(frozen=True)
class _Content:
    """What an object has to be, by a first reading of its source."""

    size: int
    part: int  # bytes of every part but the last; the manager raises what is below the 5 MiB that S3 asks for
    sha256: str
    md5: str
    part_md5s: tuple[str, ...]

    @classmethod
    def of(cls, source: BinaryIO) -> _Content:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        part = transfer.ChunksizeAdjuster().adjust_chunksize(settings().s3_part, size)
        sha256, md5, parts = hashlib.sha256(), _md5(), [_md5()]
        done = 0
        while block := source.read(min(BLOCK, part - done % part)):
            if done and done % part == 0:
                parts.append(_md5())
            done += len(block)
            for hasher in (sha256, md5, parts[-1]):
                hasher.update(block)
        return cls(done, part, sha256.hexdigest(), md5.hexdigest(), tuple(each.hexdigest() for each in parts))


class _CheckedClient:
    """The boto3 client of one upload: each request is retried by our rules, each body compared before and after.

    Raises (from the requests):
        CorruptError: the source gives other bytes than at its first reading.
    """

    def __init__(self, bucket: Bucket, key: str, content: _Content) -> None:
        self._bucket, self._key, self._content = bucket, key, content

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._bucket.client, name)
        if name not in _REQUESTS:
            return found
        return lambda **request: self._bucket.with_retries(self._key, lambda: found(**request))

    def put_object(self, **request: Any) -> dict[str, Any]:
        return self._send("put_object", self._content.md5, **request)

    def upload_part(self, **request: Any) -> dict[str, Any]:
        return self._send("upload_part", self._content.part_md5s[request["PartNumber"] - 1], **request)

    def _send(self, name: str, md5: str, *, Body: BinaryIO, **request: Any) -> dict[str, Any]:
        send = getattr(self._bucket.client, name)

        def attempt() -> dict[str, Any]:
            found = _md5()
            Body.seek(0)
            while block := Body.read(BLOCK):
                found.update(block)
            if found.hexdigest() != md5:
                raise CorruptError(f"{self._bucket.where(self._key)}: the file changes while it is uploaded; run again")
            Body.seek(0)
            response = send(Body=Body, ContentMD5=base64.b64encode(bytes.fromhex(md5)).decode(), **request)
            etag = plain_etag(response)
            if is_md5(etag, response) and etag != md5:
                if name == "put_object":
                    _withdraw(self._bucket, self._key, etag)
                raise NotStoredError(f"the server stored bytes with md5 {etag} instead of {md5}")
            return cast(dict[str, Any], response)

        return self._bucket.with_retries(self._key, attempt)


class _Size(BaseSubscriber):
    """Fixes the size at that of the first reading: of a file that grew or shrank meanwhile no other part is sent."""

    def __init__(self, size: int) -> None:
        self._size = size

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size)


def put(bucket: Bucket, key: str, data: bytes) -> None:
    """Store `data` under `key`; more than a part goes in parts.

    Raises:
        UsageError: credentials, bucket or policy.
        TransientError: the attempts are spent; then the key holds what it held, or nothing, never other bytes, and
            no upload is left behind.
    """
    _put(bucket, key, data)


def put_if_absent(bucket: Bucket, key: str, data: bytes) -> bool:
    """Store `data` under `key` unless it is taken; the server decides, by `If-None-Match: *`.

    Servers that know the header decide it atomically (AWS since 2024, MinIO, Ceph). Those that do not either say so or
    pass over it; for them infra/storage/s3_store.py has a rule of its own.

    Args:
        data: no more than one part.

    Returns:
        Whether the key now holds these bytes.

    Raises:
        NoConditionError: the server says that it does not know the header; nothing was written.
    """
    content = _Content.of(io.BytesIO(data))
    client = _CheckedClient(bucket, key, content)
    extra = {"Metadata": {SHA256: content.sha256}, "IfNoneMatch": "*"}
    try:
        client.put_object(Bucket=bucket.name, Key=key, Body=io.BytesIO(data), **extra)
    except ObjectChangedError:
        # Ours where the answer to an earlier attempt was lost on the way.
        return _is_there(bucket, key, content)
    return True


def put_file(bucket: Bucket, key: str, path: Path) -> None:
    """Like `put`, from a file, of which a few blocks are in memory at a time.

    Raises:
        CorruptError: the file changes while it is read.
    """
    _put(bucket, key, path)


def _put(bucket: Bucket, key: str, source: bytes | Path) -> None:
    with _opened(source) as file:
        content = _Content.of(file)
    client = _CheckedClient(bucket, key, content)
    extra = {"Metadata": {SHA256: content.sha256}}
    if content.size <= content.part:
        with _opened(source) as file:
            client.put_object(Bucket=bucket.name, Key=key, Body=file, **extra)
        return
    config = TransferConfig(content.part, content.part, PARALLEL, max_in_memory_upload_chunks=PARALLEL)
    attempts = bucket.attempts(key)
    while True:
        try:
            with TransferManager(client, config) as manager:
                body = str(source) if isinstance(source, Path) else io.BytesIO(source)
                manager.upload(body, bucket.name, key, extra, [_Size(content.size)]).result()
            _confirm(bucket, key, content)
            return
        except CorruptError:
            raise
        except (*FAULTS, PermanentError) as error:
            # The response to a first attempt to complete may have been lost after the server had acted on it.
            if isinstance(error, PermanentError) and _is_there(bucket, key, content):
                return
            # Some servers drop the whole upload with a part that they refuse: it starts again.
            attempts.failed(error)


def _opened(source: bytes | Path) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def uploads(bucket: Bucket, prefix: str) -> list[Upload]:
    """Multipart uploads under way or abandoned, of keys that start with `prefix`."""
    found: list[Upload] = []
    more: dict[str, str] = {}
    now = time.time()
    while True:
        page = bucket.with_retries(prefix, partial(_page_of_uploads, bucket, prefix, more))
        for row in page.get("Uploads", ()):
            found.append(Upload(row["Key"], row["UploadId"], now - row["Initiated"].timestamp()))
        if not page.get("IsTruncated"):
            return found
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def abort(bucket: Bucket, upload: Upload) -> None:
    """Drop an upload and its parts; nothing happens when it is gone already."""
    with suppress(PermanentError):
        bucket.with_retries(upload.key, lambda: _abort(bucket, upload.key, upload.id))


def _abort(bucket: Bucket, key: str, upload: str) -> None:
    bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload)


def _page_of_uploads(bucket: Bucket, prefix: str, more: dict[str, str]) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=prefix, **more))
    except ClientError as error:
        # rclone answers so for a bucket that has never had one, and some servers know no such listing.
        if error.response["Error"]["Code"] in ("NoSuchUpload", "NotImplemented"):
            return {}
        raise


def _confirm(bucket: Bucket, key: str, content: _Content) -> None:
    response = bucket.with_retries(key, lambda: bucket.client.head_object(Bucket=bucket.name, Key=key))
    etag = plain_etag(response)
    other = is_md5(etag, response) and etag != content.md5
    if other or int(response["ContentLength"]) != content.size:
        _withdraw(bucket, key, etag)
        raise NotStoredError(f"the server made {response['ContentLength']} bytes with ETag {etag} of the parts")


def _is_there(bucket: Bucket, key: str, content: _Content) -> bool:
    try:
        stored: ObjectChecksum = bucket.head(key)
    except PermanentError:
        return False
    return stored.size == content.size and stored.digest in (content.sha256, content.md5)


def _withdraw(bucket: Bucket, key: str, etag: str) -> None:
    """Take wrong bytes away from a final name, unless another writer has replaced them by now."""
    with suppress(StillroomError, *FAULTS):
        if bucket.head(key).etag == etag:
            bucket.client.delete_object(Bucket=bucket.name, Key=key)


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
