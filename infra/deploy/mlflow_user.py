"""Make a user of an MLflow server with basic authentication: `python -m infra.deploy.mlflow_user NAME`.

Asks as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, who must be an administrator; the new user's password
stands in STILLROOM_NEW_PASSWORD. A user who is there already gets that password, so that changed secrets take effect.
MLflow's own client would import its whole server.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from urllib.parse import urlencode

from infra.errors import TransientError, UsageError
from infra.servers.address import shown
from infra.servers.answer import basic
from infra.servers.tracking import tracking_uri

PASSWORD = "STILLROOM_NEW_PASSWORD"
_SECONDS = 30.0
_API = "api/2.0/mlflow/users"


def make_user(uri: str, name: str, password: str) -> str:
    """Create a user, or set its password; says which.

    Raises:
        UsageError: the server refuses, or has no such authentication; the password is not repeated.
        TransientError: it cannot be reached.
    """
    # Asked first: a database logs a statement that fails, and with it what the password became.
    if _request(f"{uri}/{_API}/get?{urlencode({'username': name})}", "GET") != 404:
        _request(f"{uri}/{_API}/update-password", "PATCH", {"username": name, "password": password})
        return f"user {name} is there and has the given password"
    if _request(f"{uri}/{_API}/create", "POST", {"username": name, "password": password}) == 404:
        raise UsageError(f"MLflow at {shown(uri)} knows no users; start it with --app-name basic-auth")
    return f"made user {name}"


def _request(url: str, method: str, body: dict[str, str] | None = None) -> int:
    """The status of the answer, which is 404 where there is no such user."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    headers = {"content-type": "application/json", "authorization": basic(f"{user}:{password}")}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers, method=method), timeout=_SECONDS
        ) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return 404
            why = _message(error.read())
        raise UsageError(f"MLflow at {shown(url)} refuses (HTTP {error.code}){why}") from None
    except OSError as error:
        raise TransientError(f"MLflow at {shown(url)} cannot be reached: {error}") from error


def _message(answer: bytes) -> str:
    try:
        return f": {json.loads(answer)['message']}"
    except (ValueError, KeyError, TypeError):
        return ""


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2 or not os.environ.get(PASSWORD):
            raise UsageError(f"python -m infra.deploy.mlflow_user NAME, with the new user's password in {PASSWORD}")
        print(make_user(tracking_uri(), sys.argv[1], os.environ[PASSWORD]))
    except (UsageError, TransientError) as wrong:
        sys.exit(f"error: {wrong}")
