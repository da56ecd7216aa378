"""Errors of MLflow, its servers, databases and artifact stores as errors of ours: who must wait, who must sign in."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from infra.errors import StillroomError, TransientError, UsageError, is_transient
from infra.servers.tracking import tracking_place
from infra.settings import settings

ATTEMPTS = 3
"""Of one file; MLflow's own requests are tried again inside of each."""

_REFUSED = {"CUSTOMER_UNAUTHORIZED": 401, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
_LATER = {
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "CANCELLED",
}
# MLflow gives these an INTERNAL_ERROR, as it does for much that no retry mends.
_UNREACHED = ("API request to", "The following failures occurred while downloading")
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LONGEST = 300  # characters of a text that is quoted

T = TypeVar("T")


def mlflow_error(error: BaseException) -> StillroomError | None:
    """The error to raise for one that came out of a call of MLflow; None where it is neither of these.

    Returns:
        UsageError where the server refuses us, TransientError where it, its database or its artifact store cannot be
        reached or fails.
    """
    for cause in _chain(error):
        status = _status(cause)
        if status in (401, 403):
            why = "wants to know who asks, and was not told or knows another one" if status == 401 else "forbids it"
            return UsageError(
                f"MLflow at {tracking_place()} {why} (HTTP {status}); set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or ask who runs it"
            )
        if status in _BUSY or _is_unreached(cause):
            return TransientError(f"MLflow at {tracking_place()} cannot be reached or fails: {_text(error)}")
    return None


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Translate what MLflow raises inside the block.

    Raises:
        UsageError, TransientError: as `mlflow_error`; any other error stays as it is.
    """
    try:
        yield
    except StillroomError:
        raise
    except Exception as error:
        found = mlflow_error(error)
        if found is None:
            raise
        raise found from error


def retried(call: Callable[[], T]) -> T:
    """What a call returns; after a transient error it is made again, `ATTEMPTS` times in all.

    Raises:
        TransientError, UsageError: of the last attempt, as `mlflow_errors`.
    """
    known = settings()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with mlflow_errors():
                return call()
        except StillroomError as error:
            if attempt == ATTEMPTS or not is_transient(error):
                raise
            time.sleep(random.uniform(0.0, min(known.s3_backoff_cap, known.s3_backoff * 2**attempt)))
    raise AssertionError("unreachable")


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _status(error: BaseException) -> int:
    """HTTP status that an error of requests, boto3 or MLflow tells; 0 for none."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if response is not None:
        return int(getattr(response, "status_code", 0) or 0)
    code = getattr(error, "error_code", None)
    if not isinstance(code, str):
        return 0
    told = {**_REFUSED, **dict.fromkeys(_LATER, 503)}
    # A server's own INTERNAL_ERROR comes as an exception of its own kind.
    return 500 if code == "INTERNAL_ERROR" and type(error).__name__ == "RestException" else told.get(code, 0)


def _is_unreached(error: BaseException) -> bool:
    kind = type(error)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if kind.__module__.startswith(("requests.", "urllib3.", "botocore.", "boto3.")):
        return kind.__name__ in {
            *("ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError", "ProtocolError"),
            *("EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError", "ReadTimeoutError"),
            *("HTTPClientError", "IncompleteReadError", "S3UploadFailedError", "NewConnectionError", "MaxRetryError"),
        }
    if kind.__module__.startswith("sqlalchemy."):
        return kind.__name__ in ("OperationalError", "InterfaceError", "TimeoutError")
    return getattr(error, "error_code", "") == "INTERNAL_ERROR" and str(error).startswith(_UNREACHED)


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
