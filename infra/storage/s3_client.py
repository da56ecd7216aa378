"""Reading a bucket: listings, objects, ranges and streams, each checked and retried (infra/storage/s3_retry.py).

boto3's transfer manager reads nothing here: it begins a broken range again instead of going on, compares no digest and
retries within a body by rules of its own (tests/infra/test_s3_faults.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, TypeVar

from infra.errors import CorruptError, PermanentError
from infra.storage.protocol import MissingObjectError
from infra.storage.s3_address import Address, client, has_answered, parse
from infra.storage.s3_retry import FAULTS, Attempts, ObjectChangedError, WrongBodyError

_T = TypeVar("_T")
BLOCK = 1 << 20
SHA256 = "sha256"  # of the whole object, in the metadata of what we wrote
_MD5 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


class ObjectEntry(NamedTuple):
    """A row of a listing."""

    key: str
    size: int  # bytes
    etag: str  # without quotes
    modified: float  # seconds since 1970


def plain_etag(response: dict[str, Any]) -> str:
    """The ETag of a response without its quotes; empty where there is none."""
    return str(response.get("ETag", "")).removeprefix("W/").strip('"')


def is_md5(etag: str, response: dict[str, Any]) -> bool:
    """Whether an ETag is the md5 of the bytes: 32 digits, and no encryption that makes it something else."""
    encrypted = (
        str(response.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in response
    )
    return not encrypted and _MD5.fullmatch(etag) is not None


@dataclass(frozen=True)
class ObjectChecksum:
    """What a response says about an object, to check its bytes by."""

    size: int  # bytes of the whole object
    etag: str  # without quotes
    algorithm: str  # sha256, md5, or empty where the response holds neither
    digest: str

    @classmethod
    def of(cls, response: dict[str, Any]) -> ObjectChecksum:
        """From the response to a GET or HEAD.

        A plain ETag is the md5 of the bytes, except where KMS or a customer's key encrypts the object.
        """
        etag = plain_etag(response)
        total = str(response.get("ContentRange", "")).rpartition("/")[2]
        size = int(total) if total.isdigit() else int(response["ContentLength"])
        # Servers differ in how they spell the names of metadata.
        metadata = {name.lower(): value for name, value in response.get("Metadata", {}).items()}
        sha = metadata.get(SHA256, "")
        if _HEX64.fullmatch(sha):
            return cls(size, etag, "sha256", sha)
        if is_md5(etag, response):
            return cls(size, etag, "md5", etag)
        return cls(size, etag, "", "")

    def hasher(self) -> Any:
        """A hash object of that algorithm; sha256 where there is none."""
        return hashlib.new(self.algorithm or "sha256", usedforsecurity=False)

    def check(self, hasher: Any) -> None:
        """WrongBodyError when the bytes that `hasher` saw are others."""
        seen = hasher.hexdigest()
        if self.algorithm and seen != self.digest:
            raise WrongBodyError(f"bytes with {self.algorithm} {seen} instead of {self.digest}", seen)


class GetResponse:
    """An open response to a GET."""

    def __init__(self, response: dict[str, Any], what: str) -> None:
        self.checksum = ObjectChecksum.of(response)
        self._response, self._what = response, what

    def expect(self, start: int | None, etag: str | None) -> None:
        """Check place and ETag, because some servers ignore If-Match and some ignore Range."""
        if etag is not None and self.checksum.etag != etag:
            raise ObjectChangedError(
                f"{self._what}: changed since it was listed (ETag {self.checksum.etag}, then {etag})"
            )
        if start is not None and not str(self._response.get("ContentRange", "")).startswith(f"bytes {start}-"):
            raise PermanentError(f"{self._what}: the server does not answer ranges; Stillroom needs one that does")

    def blocks(self) -> Iterator[bytes]:
        """The body; IncompleteReadError when it ends before the length in its header."""
        body = self._response["Body"]
        while block := body.read(BLOCK):
            yield block

    def close(self) -> None:
        """Give the connection back; one whose body was not read to its end is closed."""
        self._response["Body"].close()


class Bucket:
    """The read side of a bucket; small, picklable, safe to share between threads.

    Every call raises UsageError (credentials, bucket, policy), TransientError (attempts spent) and
    CorruptError (wrong bytes in every attempt), each naming bucket and key.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = address.bucket

    @classmethod
    def of(cls, url: str) -> tuple[Bucket, str]:
        """The bucket of `s3://bucket/prefix?endpoint=...&region=...`, and the prefix without slashes at its ends.

        Raises:
            UsageError: the text is no such address.
        """
        address, prefix = parse(url)
        return cls(address), prefix

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        return client(self.address)

    def where(self, key: str) -> str:
        """How messages name an object."""
        return f"s3://{self.name}/{key}"

    def attempts(self, key: str) -> Attempts:
        """The attempts of one call about an object."""
        return Attempts(self.where(key), lambda: has_answered(self.address))

    def with_retries(self, key: str, call: Callable[[], _T]) -> _T:
        """`call()`, repeated while its faults are transient and attempts are left.

        Args:
            key: the object that the call is about, for messages.
        """
        attempts = self.attempts(key)
        while True:
            try:
                return call()
            except FAULTS as error:
                attempts.failed(error)

    def list(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """Every object whose key starts with `prefix`, sorted by key, a page of 1,000 at a time."""
        more: dict[str, str] = {}

        def next_page() -> Any:
            return self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, **more)

        while True:
            page = self.with_retries(prefix, next_page)
            for row in page.get("Contents", ()):
                yield ObjectEntry(row["Key"], int(row["Size"]), row["ETag"].strip('"'), row["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def head(self, key: str) -> ObjectChecksum:
        """Size, ETag and digest of an object without its bytes; MissingObjectError when it is not there."""
        return self.with_retries(key, lambda: ObjectChecksum.of(self.client.head_object(Bucket=self.name, Key=key)))

    def modified(self, key: str) -> float:
        """Seconds since 1970 at which an object was written; MissingObjectError when it is not there."""
        response = self.with_retries(key, lambda: self.client.head_object(Bucket=self.name, Key=key))
        return float(response["LastModified"].timestamp())

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            self.head(key)
        except MissingObjectError:
            return False
        return True

    def get(self, key: str, *, start: int | None = None, size: int | None = None, etag: str | None = None) -> bytes:
        """The whole object, or exactly `size` bytes from `start`.

        A whole object is checked against the sha256 in its metadata, else against a plain md5 ETag. Of a range
        only place and length can be checked: its content needs a crc or digest of the caller's.

        Args:
            start: first byte; 0 when only `size` is given.
            size: number of bytes; up to the end when only `start` is given.
            etag: the ETag that the object must still have.

        Raises:
            MissingObjectError: no such object.
            ObjectChangedError: its ETag is another.
            CorruptError: the object ends before the range does.
        """
        if size == 0:
            return b""
        if start is None and size is None:
            return self.with_retries(key, lambda: b"".join(self._whole(key, etag)))
        return self.with_retries(key, lambda: self._range(key, start or 0, size, etag))

    def stream(self, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        """Blocks of the whole object, of a mebibyte at most; a stream that breaks goes on where it stopped.

        Raises:
            MissingObjectError, ObjectChangedError: as `get`.
            WrongBodyError: after the last block, when the bytes do not match the checksum of the object; a
                second reading may succeed. `sha256` and `download` try again themselves.
        """
        attempts = self.attempts(key)
        done, hasher = 0, None
        checksum: ObjectChecksum | None = None
        while checksum is None or done < checksum.size:
            try:
                with closing(self._open(key, done, None, checksum.etag if checksum else etag)) as response:
                    checksum = checksum or response.checksum
                    hasher = hasher or checksum.hasher()
                    for block in response.blocks():
                        done += len(block)
                        hasher.update(block)
                        yield block
            except FAULTS as error:
                attempts.failed(error)
        checksum.check(hasher)

    def download(self, key: str, file: BinaryIO, *, etag: str | None = None) -> str:
        """Write the whole object into an empty, seekable file, and return the sha256 of its bytes.

        Raises:
            MissingObjectError, ObjectChangedError: as `get`.
        """
        return self._sha256(key, etag, file)

    def sha256(self, key: str, *, etag: str | None = None) -> str:
        """The sha256 of an object's bytes, read in blocks.

        Raises:
            MissingObjectError, ObjectChangedError: as `get`.
        """
        return self._sha256(key, etag, None)

    def _sha256(self, key: str, etag: str | None, file: BinaryIO | None) -> str:
        attempts = self.attempts(key)
        while True:
            hasher = hashlib.sha256()
            if file is not None:
                file.seek(0)
                file.truncate()
            try:
                for block in self.stream(key, etag=etag):
                    hasher.update(block)
                    if file is not None:
                        file.write(block)
                return hasher.hexdigest()
            except WrongBodyError as error:
                attempts.failed(error)

    def _whole(self, key: str, etag: str | None) -> Iterator[bytes]:
        with closing(self._open(key, 0, None, etag)) as response:
            hasher = response.checksum.hasher()
            for block in response.blocks():
                hasher.update(block)
                yield block
            response.checksum.check(hasher)

    def _range(self, key: str, start: int, size: int | None, etag: str | None) -> bytes:
        with closing(self._open(key, start, size, etag)) as response:
            data = b"".join(response.blocks())
        if size is not None and len(data) != size:
            raise CorruptError(f"{self.where(key)}: {len(data)} of {size} bytes at offset {start}")
        return data

    def _open(self, key: str, start: int, size: int | None, etag: str | None) -> GetResponse:
        wanted: dict[str, str] = {}
        if start or size is not None:
            wanted["Range"] = f"bytes={start}-" if size is None else f"bytes={start}-{start + size - 1}"
        if etag is not None:
            wanted["IfMatch"] = f'"{etag}"'
        response = GetResponse(self.client.get_object(Bucket=self.name, Key=key, **wanted), self.where(key))
        try:
            response.expect(start if "Range" in wanted else None, etag)
        except BaseException:
            response.close()
            raise
        return response
