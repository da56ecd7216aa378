"""One retry loop for every request to S3: which faults are transient, and which error the others become.

botocore's own retries are off, because they end where a body begins: the caller would have to handle a stream that
breaks, stalls, ends early or carries wrong bytes, and the attempts of two nested loops multiply.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from infra.errors import CorruptError, DiskError, PermanentError, StillroomError, TransientError, UsageError
from infra.patience import pause, waits
from infra.settings import settings
from infra.storage.protocol import MissingObjectError


class ObjectChangedError(PermanentError):
    """The object is not the one that was listed: its ETag changed."""


class NoConditionError(PermanentError):
    """The server does not know a condition that a request was sent with; nothing was done."""


class WrongBodyError(CorruptError):
    """Bytes arrived whole and wrong; another attempt may bring the right ones."""

    def __init__(self, text: str, digest: str) -> None:
        super().__init__(text)
        self.digest = digest  # of what arrived


class NotStoredError(TransientError):
    """The server reported success and stored other bytes; another attempt may succeed."""


FAULTS = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    HTTPError,
    ConnectionError,
    TimeoutError,
    WrongBodyError,
    NotStoredError,
)
SAME = 3  # wrong bytes that arrive so often alike are what the server has, not damage on the way

_log = logging.getLogger(__name__)

_BUSY_STATUS = {408, 429, 500, 502, 503, 504}
_BUSY_CODE = {
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentSHA256Mismatch",
}
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_ABSENT = {"404", "NoSuchKey"}
_REGION = {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_WHO = "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_PROFILE"


class Attempts:
    """Counts the attempts of one call.

    `STILLROOM_S3_ATTEMPTS` are made. A server that answered before and is gone now (restarted, its network mended) is
    asked for `STILLROOM_PATIENCE` seconds: what a run has made so far is worth the wait.

    Usage: `while True: try: return call() except FAULTS as error: attempts.failed(error)`.

    Args:
        what: the object, as s3://bucket/key.
        known: whether the server answered this process before; asked when the attempts are spent.
    """

    def __init__(self, what: str, known: Callable[[], bool] = lambda: False) -> None:
        self.what, self._known = what, known
        self._failed = 0
        self._since = 0.0  # of the first fault
        self._warned = False
        self._wrong: list[str] = []

    def failed(self, error: BaseException) -> None:
        """Wait before the next attempt, full jitter under a doubling bound; or raise the final error.

        Raises:
            UsageError: credentials, bucket, region or policy are wrong.
            MissingObjectError, ObjectChangedError, PermanentError: no attempt can succeed.
            TransientError: the attempts are spent; the text has the last fault.
            CorruptError: the attempts are spent and the last one brought wrong bytes, or several in a row
                brought the same wrong bytes.
        """
        final = final_error(error, self.what)
        if final is not None:
            raise final from error
        known = settings()
        self._failed += 1
        self._since = self._since or time.monotonic()
        waited = time.monotonic() - self._since
        spent = self._failed >= known.s3_attempts
        text = f"{self.what}: {_text(error)} (attempt {self._failed} of {known.s3_attempts})"
        if spent and is_gone(error) and self._known():
            spent = not waits(self._since)
            if self._failed > known.s3_attempts:
                text = f"{self.what}: {_text(error)} (for {waited:.0f} s, attempt {self._failed})"
            if not spent and not self._warned:
                self._warned = True
                _log.warning("%s; waiting for it up to %g s", text, known.patience)
        if isinstance(error, WrongBodyError):
            self._wrong.append(error.digest)
            if spent or self._wrong[-SAME:] == [error.digest] * SAME:
                raise CorruptError(f"{text}; the server has it so: in a store, run stillroom repair") from error
        elif spent:
            raise TransientError(f"{text}; look at the S3 server, then run again") from error
        bound = min(known.s3_backoff_cap, known.s3_backoff * 2 ** (self._failed - 1))
        pause(random.uniform(0.0, bound))


def is_gone(error: BaseException) -> bool:
    """Whether a fault says that nobody is there: no connection, no answer, or a proxy that says so."""
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) in (502, 503, 504)
    return isinstance(error, HTTPClientError | NoConnectionError | HTTPError | ConnectionError | TimeoutError)


def final_error(error: BaseException, what: str) -> StillroomError | None:
    """The error to raise for a fault, or None where another attempt may succeed.

    Args:
        what: the object, as s3://bucket/key.
    """
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return UsageError(f"{what}: {error}; {_WHO}")
    if isinstance(error, NoRegionError | InvalidRegionError):
        return UsageError(f"{what}: {error}; set AWS_DEFAULT_REGION or ?region= in the address")
    if isinstance(error, ClientError):
        return _of_response(error, what)
    transport = (HTTPClientError, NoConnectionError, IncompleteReadError)
    if isinstance(error, BotoCoreError) and not isinstance(error, transport):
        return UsageError(f"{what}: {error}")
    return None


def _of_response(error: ClientError, what: str) -> StillroomError | None:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status == 507 or code in _FULL:
        return DiskError(f"{what}: the S3 server has no room ({code or status}); free space there, or raise the quota")
    if status in _BUSY_STATUS or code in _BUSY_CODE:
        return None
    if code == "NoSuchBucket":
        return UsageError(f"{what}: there is no such bucket at this endpoint; look at the address and AWS_ENDPOINT_URL")
    if code in _ABSENT:
        bucket, _, key = what.removeprefix("s3://").partition("/")
        return MissingObjectError(f"s3://{bucket}: no object {key}")
    if code == "InvalidRange":
        return CorruptError(f"{what}: the object ends before the bytes that were asked for")
    if status == 501 or code == "NotImplemented":
        return NoConditionError(f"{what}: the S3 server does not know this request ({_text(error)})")
    if code in ("412", "PreconditionFailed"):
        return ObjectChangedError(f"{what}: changed while it was read; run again")
    if code in _REGION:
        return UsageError(f"{what}: the bucket is in another region ({code}); look at AWS_DEFAULT_REGION")
    if code == "RequestTimeTooSkewed":
        return UsageError(f"{what}: this machine's clock is off ({code}); set it right")
    if status in (401, 403):
        return UsageError(
            f"{what}: access refused ({code}); {_WHO}, and whether the policy allows s3:ListBucket, s3:GetObject, "
            "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload here"
        )
    return PermanentError(f"{what}: {_text(error)}")


def _text(error: BaseException) -> str:
    if isinstance(error, ClientError):
        fields = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return f"{status} {fields.get('Code', '')} {fields.get('Message', '')}".strip()
    return str(error) or type(error).__name__
