"""What an S3 server's answer promises about an object, and the body that has to keep it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.errors import PermanentError
from infra.storage.s3_retry import ChangedError, WrongBodyError

BLOCK = 1 << 20
SHA256 = "sha256"  # of the whole object, in the metadata of what we wrote
_MD5 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


def plain_etag(answer: dict[str, Any]) -> str:
    """The ETag of an answer without its quotes; empty where there is none."""
    return str(answer.get("ETag", "")).removeprefix("W/").strip('"')


def is_md5(etag: str, answer: dict[str, Any]) -> bool:
    """Whether an ETag is the md5 of the bytes: 32 digits, and no encryption that makes it something else."""
    encrypted = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer
    return not encrypted and _MD5.fullmatch(etag) is not None


@dataclass(frozen=True)
class Promise:
    """What an answer says about the object, to check its bytes by."""

    size: int  # bytes of the whole object
    etag: str  # without quotes
    algorithm: str  # sha256, md5, or empty where the answer tells nothing
    digest: str

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Promise:
        """From the answer to a GET or HEAD.

        A plain ETag is the md5 of the bytes, except where KMS or a customer's key encrypts the object.
        """
        etag = plain_etag(answer)
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        size = int(total) if total.isdigit() else int(answer["ContentLength"])
        # Servers differ in how they spell the names of metadata.
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        sha = metadata.get(SHA256, "")
        if _HEX64.fullmatch(sha):
            return cls(size, etag, "sha256", sha)
        if is_md5(etag, answer):
            return cls(size, etag, "md5", etag)
        return cls(size, etag, "", "")

    def hasher(self) -> Any:
        """A hash object of the promised kind; sha256 where nothing is promised."""
        return hashlib.new(self.algorithm or "sha256", usedforsecurity=False)

    def check(self, hasher: Any) -> None:
        """WrongBodyError when the bytes that `hasher` saw are others."""
        seen = hasher.hexdigest()
        if self.algorithm and seen != self.digest:
            raise WrongBodyError(f"bytes with {self.algorithm} {seen} instead of {self.digest}", seen)


class Answer:
    """An open answer to a GET."""

    def __init__(self, reply: dict[str, Any], what: str) -> None:
        self.promise = Promise.of(reply)
        self._reply, self._what = reply, what

    def expect(self, start: int | None, etag: str | None) -> None:
        """Some servers pass over If-Match, some over Range: ask the answer itself."""
        if etag is not None and self.promise.etag != etag:
            raise ChangedError(f"{self._what}: changed since it was listed (ETag {self.promise.etag}, then {etag})")
        if start is not None and not str(self._reply.get("ContentRange", "")).startswith(f"bytes {start}-"):
            raise PermanentError(f"{self._what}: the server does not answer ranges; Stillroom needs one that does")

    def blocks(self) -> Iterator[bytes]:
        """The body; IncompleteReadError when it ends before the promised length."""
        body = self._reply["Body"]
        while block := body.read(BLOCK):
            yield block

    def close(self) -> None:
        """Give the connection back; one whose body was not read to its end is closed."""
        self._reply["Body"].close()
