"""What a run tells Prefect beside its states: artifacts and events. A run does not fail because nobody listens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from infra.patience import patiently

T = TypeVar("T")

_log = logging.getLogger(__name__)


def is_api_gone(error: BaseException) -> bool:
    """Whether an error of Prefect's client says that the API cannot be reached or fails."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def tell(call: Callable[[], T], what: str, *, wait: bool = True) -> T | None:
    """What a call of Prefect's client returns; None, and a line in the log, where the API stays away.

    Args:
        what: is told, for people.
        wait: for an API that is gone; else it is asked once.
    """
    try:
        return patiently(call, is_api_gone) if wait else call()
    except Exception as error:
        if not is_api_gone(error):
            raise
        _log.warning("Prefect was not told of %s: %s", what, error)
        return None
