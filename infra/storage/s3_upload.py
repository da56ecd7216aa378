"""Writing to a bucket: whole objects and multipart uploads, each checked, none left half done.

Content-MD5 goes with every body, so that a server which checks it refuses a damaged one; a plain md5 ETag in
the answer is compared for those which do not. The sha256 of the whole object becomes metadata for readers.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from botocore.exceptions import ClientError

from infra.errors import CorruptError, PermanentError, StillroomError
from infra.settings import settings
from infra.storage.s3_answer import BLOCK, SHA256, Promise, is_md5, plain_etag
from infra.storage.s3_client import Bucket
from infra.storage.s3_retry import FAULTS, NotStoredError, Tries

MOST_PARTS = 10_000  # S3's own limit
_MOVING = "the file changes while it is uploaded; run again"


class Upload(NamedTuple):
    """A multipart upload that was neither completed nor aborted."""

    key: str
    id: str
    age: float  # seconds, by this machine's clock


@dataclass(frozen=True)
class _Body:
    """What an object has to be."""

    size: int
    md5: str
    sha256: str

    @classmethod
    def of(cls, source: BinaryIO) -> _Body:
        size, md5, sha256 = 0, hashlib.md5(usedforsecurity=False), hashlib.sha256()
        while block := source.read(BLOCK):
            size += len(block)
            md5.update(block)
            sha256.update(block)
        return cls(size, md5.hexdigest(), sha256.hexdigest())


def put(bucket: Bucket, key: str, data: bytes) -> None:
    """Store `data` under `key`; more than a part goes in parts.

    Raises:
        UsageError: credentials, bucket or policy.
        TransientError: the attempts are spent; then the key holds what it held, or nothing, never other bytes, and
            no upload is left behind.
    """
    _put(bucket, key, lambda: io.BytesIO(data))


def put_file(bucket: Bucket, key: str, path: Path) -> None:
    """Like `put`, from a file, of which one part at a time is in memory.

    Raises:
        CorruptError: the file changes while it is read.
    """
    _put(bucket, key, lambda: path.open("rb"))


def _put(bucket: Bucket, key: str, opened: Callable[[], BinaryIO]) -> None:
    with opened() as source:
        body = _Body.of(source)
    part = max(settings().s3_part, -(-body.size // MOST_PARTS))
    if body.size <= part:
        with opened() as source:
            data = source.read(part + 1)
        if hashlib.sha256(data).hexdigest() != body.sha256:
            raise CorruptError(f"{bucket.where(key)}: {_MOVING}")
        bucket.ask(key, lambda: _whole(bucket, key, data, body))
        return
    tries = Tries(bucket.where(key))
    while True:
        try:
            with opened() as source:
                _multipart(bucket, key, source, body, part)
            return
        except CorruptError:
            raise
        except (*FAULTS, PermanentError) as error:
            # Some servers drop the whole upload with a part that they refuse: it starts again.
            tries.failed(error)


def _whole(bucket: Bucket, key: str, data: bytes, body: _Body) -> None:
    answer = bucket.client.put_object(
        Bucket=bucket.name, Key=key, Body=data, ContentMD5=_base64(body.md5), Metadata={SHA256: body.sha256}
    )
    etag = plain_etag(answer)
    if is_md5(etag, answer) and etag != body.md5:
        _withdraw(bucket, key, etag)
        raise NotStoredError(f"the server stored bytes with md5 {etag} instead of {body.md5}")


def uploads(bucket: Bucket, prefix: str) -> list[Upload]:
    """Multipart uploads under way or abandoned, of keys that start with `prefix`."""
    found: list[Upload] = []
    more: dict[str, str] = {}
    now = time.time()
    while True:
        page = bucket.ask(prefix, partial(_page_of_uploads, bucket, prefix, more))
        for row in page.get("Uploads", ()):
            found.append(Upload(row["Key"], row["UploadId"], now - row["Initiated"].timestamp()))
        if not page.get("IsTruncated"):
            return found
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def abort(bucket: Bucket, upload: Upload) -> None:
    """Drop an upload and its parts; nothing happens when it is gone already."""
    with suppress(PermanentError):
        bucket.ask(upload.key, lambda: _abort(bucket, upload.key, upload.id))


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


def _multipart(bucket: Bucket, key: str, source: BinaryIO, body: _Body, part: int) -> None:
    client, place = bucket.client, {"Bucket": bucket.name, "Key": key}
    started = bucket.ask(key, lambda: client.create_multipart_upload(**place, Metadata={SHA256: body.sha256}))
    upload = started["UploadId"]
    try:
        parts = _send_parts(bucket, key, upload, source, body, part)
        done = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        try:
            bucket.ask(key, lambda: client.complete_multipart_upload(**place, **done))
        except PermanentError:
            # The answer to a first attempt may have been lost after the server had acted on it.
            if not _is_there(bucket, key, body):
                raise
            return
        _confirm(bucket, key, body)
    except BaseException:
        with suppress(StillroomError):
            abort(bucket, Upload(key, upload, 0.0))
        raise


def _send_parts(
    bucket: Bucket, key: str, upload: str, source: BinaryIO, body: _Body, part: int
) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    whole = hashlib.sha256()
    while block := source.read(part):
        whole.update(block)
        number = len(parts) + 1
        etag = bucket.ask(key, _part(bucket, key, upload, number, block))
        parts.append({"PartNumber": number, "ETag": etag})
    if whole.hexdigest() != body.sha256:
        raise CorruptError(f"{bucket.where(key)}: {_MOVING}")
    return parts


def _part(bucket: Bucket, key: str, upload: str, number: int, block: bytes) -> Callable[[], str]:
    md5 = hashlib.md5(block, usedforsecurity=False).hexdigest()

    def send() -> str:
        answer = bucket.client.upload_part(
            Bucket=bucket.name, Key=key, UploadId=upload, PartNumber=number, Body=block, ContentMD5=_base64(md5)
        )
        etag = plain_etag(answer)
        if is_md5(etag, answer) and etag != md5:
            raise NotStoredError(f"the server took part {number} with md5 {etag} instead of {md5}")
        return str(answer["ETag"])

    return send


def _confirm(bucket: Bucket, key: str, body: _Body) -> None:
    answer = bucket.ask(key, lambda: bucket.client.head_object(Bucket=bucket.name, Key=key))
    etag = plain_etag(answer)
    other = is_md5(etag, answer) and etag != body.md5
    if other or int(answer["ContentLength"]) != body.size:
        _withdraw(bucket, key, etag)
        raise NotStoredError(f"the server made {answer['ContentLength']} bytes with ETag {etag} of the parts")


def _is_there(bucket: Bucket, key: str, body: _Body) -> bool:
    try:
        promise: Promise = bucket.head(key)
    except PermanentError:
        return False
    return promise.size == body.size and promise.digest in (body.sha256, body.md5)


def _withdraw(bucket: Bucket, key: str, etag: str) -> None:
    """Take wrong bytes away from a final name, unless another writer has replaced them by now."""
    with suppress(StillroomError, *FAULTS):
        if bucket.head(key).etag == etag:
            bucket.client.delete_object(Bucket=bucket.name, Key=key)


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()
