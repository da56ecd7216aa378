"""Prefect's API for a run: the one that is configured, or a child of ours that dies with us.

Prefect's own ephemeral server outlives a killed parent; ours is tied to it by the lifeline.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import TransientError
from infra.lifeline import start_tied
from infra.settings import settings

_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
    # Our cache is the only cache; results of tasks are references that stay in memory.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_TASKS_REFRESH_CACHE": "false",
}


def prefect_home() -> Path:
    """Prefect's folder: the user's own when PREFECT_HOME is set, else below STILLROOM_HOME."""
    return Path(os.environ.get("PREFECT_HOME") or settings().home.resolve() / "prefect")


def prepare_environment() -> None:
    """Set what Prefect reads when it is imported; call before the first import of prefect."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["PREFECT_HOME"] = str(prefect_home())
    prefect_home().mkdir(parents=True, exist_ok=True)


@contextmanager
def prefect_api() -> Iterator[str]:
    """The API's URL, in PREFECT_API_URL while the block runs.

    Taken in this order: PREFECT_API_URL, the server that `stillroom up` runs, a child of ours.
    """
    prepare_environment()
    configured = os.environ.get("PREFECT_API_URL") or served()
    child: subprocess.Popen[bytes] | None = None
    if configured is None:
        port = free_port()
        child = start_api(port)
        configured = f"http://127.0.0.1:{port}/api"
    try:
        wait_for(f"{configured}/health", child)
        before = os.environ.get("PREFECT_API_URL")
        os.environ["PREFECT_API_URL"] = configured
        yield configured
    finally:
        if child is not None:
            _send_the_rest()
            os.environ.pop("PREFECT_API_URL", None)
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        elif before is None:
            os.environ.pop("PREFECT_API_URL", None)


def _send_the_rest() -> None:
    """Logs and events still in Prefect's queues would find no server later."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def start_api(port: int, host: str = "127.0.0.1") -> subprocess.Popen[bytes]:
    """Start Prefect's API and pages as a tied child on a port."""
    prepare_environment()
    env = {**os.environ, "PREFECT_UI_API_URL": f"http://{host}:{port}/api"}
    env.pop("PREFECT_API_URL", None)
    args = ["--factory", "prefect.server.api.server:create_app", "--host", host, "--port", str(port)]
    return start_tied("uvicorn", [*args, "--log-level", "warning"], env)


def wait_for(url: str, child: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the URL answers; TransientError when it does not in `STILLROOM_API_TIMEOUT` seconds."""
    deadline = time.monotonic() + settings().api_timeout
    while time.monotonic() < deadline:
        if child is not None and child.poll() is not None:
            raise TransientError(f"the server for {url} ended at once with code {child.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TransientError(f"no answer from {url} in {settings().api_timeout:.0f} s")


def served() -> str | None:
    """The API of a running `stillroom up` on this machine, if any."""
    note = services_note()
    try:
        noted = json.loads(note.read_text())
        os.kill(int(noted["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return str(noted["prefect"]) + "/api"


def services_note() -> Path:
    """Where `stillroom up` notes its addresses."""
    return settings().home.resolve() / "services.json"


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
