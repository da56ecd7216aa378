"""Questions to Prefect's API as a script asks them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.servers.answer import basic


@dataclass(frozen=True)
class Api:
    """Prefect's API at an address, and the `user:password` that it asks for."""

    url: str
    auth: str

    def get(self, path: str) -> Any:
        return self._ask(path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask(path, json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None) -> Any:
        headers = {"content-type": "application/json", "authorization": basic(self.auth)}
        request = urllib.request.Request(self.url + path, body, headers)
        for attempt in range(5):
            try:
                with urllib.request.urlopen(request, timeout=60) as found:
                    return json.loads(found.read() or b"null")
            except urllib.error.HTTPError as error:
                # The database is busy; Prefect's own client tries again too.
                if error.code != 503 or attempt == 4:
                    raise AssertionError(f"{path}: {error} {error.read()[:500]!r}") from None
                time.sleep(1.0 + attempt)
        raise AssertionError("unreachable")


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What `condition` answers once it answers something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came in time"
        time.sleep(0.5)
    return found
