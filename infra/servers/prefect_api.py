"""Prefect's API server for a run: the one that is configured, or ours.

The API is the one that is configured, or a child of this process. Prefect's own ephemeral server would outlive a
killed parent. A server that we start answers only to those who know the authentication string of its home, and to pages
of its own origin.

Of infra, only this module, `flow_runs` and `pool_worker` import prefect.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import StillroomError, TransientError, UsageError
from infra.private_files import private_folder
from infra.servers.address import checked_http, origin_of, own_origins, shown, spare_loopback, without_userinfo
from infra.servers.answer import answer, basic
from infra.servers.file_lock import FileLock
from infra.servers.server_process import ServerProcess, log_folder, wait_for
from infra.servers.services import SERVER_AUTH, served, server_auth, used_api
from infra.settings import home_folder, settings

DEATH_SECONDS = 3.0
"""From the first sign of a dead server to the end of its process."""

_URL, _AUTH = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"
_ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
_VACUUM = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"
_EXAMPLE = "http://HOST:4200/api"
GIVEN = f"{_URL}: Prefect's API"
"""The configured API, for people."""

_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
    # Our cache is the only cache; results of tasks are references that stay in memory.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_TASKS_REFRESH_CACHE": "false",
    # Runs, their logs and artifacts are kept for 90 days, events for 7 (both are settings of Prefect's); without this
    # runs would be kept for ever. What a run decided stays in the store and in MLflow.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # Pauses of 2, 4, ... 128 s: a server that is restarted in the middle of a run is waited for.
    "PREFECT_CLIENT_MAX_RETRIES": "7",
}


def prefect_home() -> Path:
    """Prefect's folder: the user's own when PREFECT_HOME is set, else below STILLROOM_HOME."""
    return Path(os.environ.get("PREFECT_HOME") or settings().home.resolve() / "prefect")


def prepare_environment() -> None:
    """Set what Prefect reads when it is imported; call before the first import of prefect."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["PREFECT_HOME"] = str(prefect_home())
    spare_loopback()
    home_folder("prefect")
    private_folder(prefect_home())


@contextmanager
def prefect_api() -> Iterator[str]:
    """The API's URL, in PREFECT_API_URL while the block runs; so is what it wants to know of those who ask.

    Taken in this order: PREFECT_API_URL, the server that `stillroom up` runs or works for, a child of ours.

    Raises:
        UsageError: PREFECT_API_URL is no address, or what answers there refuses us or is no API of Prefect.
        TransientError: the API does not answer, or the child died within the block and that made the block fail.
    """
    prepare_environment()
    given, found = os.environ.get(_URL) or used_api(), served()
    if not given and not found:
        with _own_api() as url:
            yield url
        return
    url, auth = given_api(given) if given else (str(found), server_auth())
    check_api(url, auth, GIVEN if given else "Prefect's API of `stillroom up`")
    with _environment(url, auth):
        try:
            yield url
        finally:
            _send_pending()


@contextmanager
def _own_api() -> Iterator[str]:
    port = free_port()
    url, server = f"http://127.0.0.1:{port}/api", None
    with _environment(url, server_auth()):
        try:
            # Two servers that bring a new database through its migrations at once break it.
            with FileLock(lambda: home_folder() / "prefect-start.lock"):
                server = start_api(port)
                # Takes as long as the server's own imports, and both have a core.
                import prefect.flows
                import prefect.tasks  # noqa: F401

                wait_for(f"{url}/health", server)
            yield url
        except Exception as error:
            if server is not None and not isinstance(error, StillroomError):
                _check(server, error)
            raise
        finally:
            if server is not None:
                _send_pending()
                server.stop()


@contextmanager
def _environment(url: str, auth: str | None) -> Iterator[None]:
    """What Prefect's clients read, in this process and those that it starts."""
    before = {name: os.environ.get(name) for name in (_URL, _AUTH)}
    _set(_URL, url)
    _set(_AUTH, auth)
    try:
        yield
    finally:
        for name, value in before.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def given_api(given: str) -> tuple[str, str | None]:
    """The configured API without a slash at its end, and the authentication string for it; None where there is none."""
    url = given.strip().rstrip("/")
    checked_http(url, _URL, _EXAMPLE)
    url, userinfo = without_userinfo(url)
    own = server_auth() if url == served() else None
    return url, os.environ.get(_AUTH) or userinfo or own


def check_api(url: str, auth: str | None, name: str) -> None:
    """Return when Prefect's API answers us.

    Args:
        auth: `user:password`; without it PREFECT_API_KEY is shown, as Prefect does.
        name: of the API, for people.

    Raises:
        UsageError: it refuses us, redirects, or is no API of Prefect.
        TransientError: it cannot be reached.
    """
    key = os.environ.get("PREFECT_API_KEY")
    header = basic(auth) if auth else f"Bearer {key}" if key else ""
    try:
        # Its /health answers anybody; whether it knows us only a question about runs shows.
        found = answer(f"{url}/flow_runs/filter", name, auth=header, body=b'{"limit": 1}')
    except UsageError as error:
        hint = f"; the address of Prefect's API has the form {_EXAMPLE}" if "HTTP 404" in str(error) else ""
        hint = f"; set {_AUTH} (or PREFECT_API_KEY)" if "HTTP 40" in str(error) and not hint else hint
        raise UsageError(f"{error}{hint}") from None
    try:
        known = isinstance(json.loads(found), list)
    except ValueError:
        known = False
    if not known:
        raise UsageError(
            f"{name} at {shown(url)} answers, but not as Prefect does; its address has the form {_EXAMPLE}"
        )


def _check(server: ServerProcess, error: Exception) -> None:
    try:
        server.check(DEATH_SECONDS)
    except TransientError as ended:
        raise ended from error


def _send_pending() -> None:
    """Send logs and events that are still in Prefect's queues; later there may be no server or process for them."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def start_api(port: int, host: str = "127.0.0.1") -> ServerProcess:
    """Start Prefect's API and pages as a child of this process; it answers only to `server_auth()`."""
    prepare_environment()
    env = {
        **os.environ,
        "PREFECT_UI_API_URL": f"{origin_of(host, port)}/api",
        "PREFECT_UI_URL": origin_of(host, port),
        # In memory a limit on runs is lost with the server, and who holds it is crashed when it comes back.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Polls alone are 35,000 runs a year; of those that ended three months ago Prefect forgets all.
        _VACUUM: os.environ.get(_VACUUM) or "events,flow_runs",
        SERVER_AUTH: server_auth(),
        _ORIGINS: os.environ.get(_ORIGINS) or ",".join(own_origins(host, port)),
    }
    # What the server is told of other servers would be where it looks for itself.
    for name in (_URL, _AUTH):
        env.pop(name, None)
    args = ["--factory", "prefect.server.api.server:create_app", "--host", host, "--port", str(port)]
    # Without --app-dir uvicorn puts the working folder first on the import path.
    args += ["--log-level", "warning", "--app-dir", str(log_folder())]
    return ServerProcess("prefect", "uvicorn", args, env)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
