"""Reading a bucket: listings, objects, ranges and streams, each checked and retried (infra/storage/s3_retry.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, BinaryIO, NamedTuple, TypeVar

from infra.errors import CorruptError
from infra.storage.protocol import MissingObjectError
from infra.storage.s3_address import Address, client, parse
from infra.storage.s3_answer import Answer, Promise
from infra.storage.s3_retry import FAULTS, Tries, WrongBodyError

_T = TypeVar("_T")


class Entry(NamedTuple):
    """A row of a listing."""

    key: str
    size: int  # bytes
    etag: str  # without quotes
    modified: float  # seconds since 1970


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

    def ask(self, key: str, call: Callable[[], _T]) -> _T:
        """`call()`, again and again while its faults may pass.

        Args:
            key: the object that the call is about, for messages.
        """
        tries = Tries(self.where(key))
        while True:
            try:
                return call()
            except FAULTS as error:
                tries.failed(error)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key starts with `prefix`, sorted by key, a page of 1,000 at a time."""
        more: dict[str, str] = {}

        def next_page() -> Any:
            return self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, **more)

        while True:
            page = self.ask(prefix, next_page)
            for row in page.get("Contents", ()):
                yield Entry(row["Key"], int(row["Size"]), row["ETag"].strip('"'), row["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def head(self, key: str) -> Promise:
        """Size, ETag and digest of an object without its bytes; MissingObjectError when it is not there."""
        return self.ask(key, lambda: Promise.of(self.client.head_object(Bucket=self.name, Key=key)))

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
            ChangedError: its ETag is another.
            CorruptError: the object ends before the range does.
        """
        if size == 0:
            return b""
        if start is None and size is None:
            return self.ask(key, lambda: b"".join(self._whole(key, etag)))
        return self.ask(key, lambda: self._range(key, start or 0, size, etag))

    def stream(self, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        """Blocks of the whole object, of a mebibyte at most; a stream that breaks goes on where it stopped.

        Raises:
            MissingObjectError, ChangedError: as `get`.
            WrongBodyError: after the last block, when what was delivered is not what the object promises; a
                second reading may well succeed. `sha256` and `download` try again themselves.
        """
        tries = Tries(self.where(key))
        done, hasher = 0, None
        promise: Promise | None = None
        while promise is None or done < promise.size:
            try:
                with closing(self._open(key, done, None, promise.etag if promise else etag)) as answer:
                    promise = promise or answer.promise
                    hasher = hasher or promise.hasher()
                    for block in answer.blocks():
                        done += len(block)
                        hasher.update(block)
                        yield block
            except FAULTS as error:
                tries.failed(error)
        promise.check(hasher)

    def download(self, key: str, file: BinaryIO, *, etag: str | None = None) -> str:
        """Write the whole object into an empty, seekable file, and return the sha256 of its bytes.

        Raises:
            MissingObjectError, ChangedError: as `get`.
        """
        return self._sha256(key, etag, file)

    def sha256(self, key: str, *, etag: str | None = None) -> str:
        """The sha256 of an object's bytes, read in blocks.

        Raises:
            MissingObjectError, ChangedError: as `get`.
        """
        return self._sha256(key, etag, None)

    def _sha256(self, key: str, etag: str | None, file: BinaryIO | None) -> str:
        tries = Tries(self.where(key))
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
                tries.failed(error)

    def _whole(self, key: str, etag: str | None) -> Iterator[bytes]:
        with closing(self._open(key, 0, None, etag)) as answer:
            hasher = answer.promise.hasher()
            for block in answer.blocks():
                hasher.update(block)
                yield block
            answer.promise.check(hasher)

    def _range(self, key: str, start: int, size: int | None, etag: str | None) -> bytes:
        with closing(self._open(key, start, size, etag)) as answer:
            data = b"".join(answer.blocks())
        if size is not None and len(data) != size:
            raise CorruptError(f"{self.where(key)}: {len(data)} of {size} bytes at offset {start}")
        return data

    def _open(self, key: str, start: int, size: int | None, etag: str | None) -> Answer:
        wanted: dict[str, str] = {}
        if start or size is not None:
            wanted["Range"] = f"bytes={start}-" if size is None else f"bytes={start}-{start + size - 1}"
        if etag is not None:
            wanted["IfMatch"] = f'"{etag}"'
        reply = self.client.get_object(Bucket=self.name, Key=key, **wanted)
        answer = Answer(reply, self.where(key))
        try:
            answer.expect(start if "Range" in wanted else None, etag)
        except BaseException:
            answer.close()
            raise
        return answer
