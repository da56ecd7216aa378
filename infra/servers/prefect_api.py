"""Prefect for a run: its API server, the process that a run belongs to, requests to stop.

The API is the one that is configured, or a child of this process. Prefect's own ephemeral server would outlive a
killed parent.

A flow run that was started by hand has no Prefect worker that notices its death. Each run therefore has a tag
`proc:<host>:<pid>:<start>`, and the next run marks the runs of dead processes as Crashed.

This is the only module of infra that imports prefect.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from infra.errors import StillroomError, TransientError
from infra.private_files import private_folder
from infra.servers.server_process import ServerProcess, log_folder, wait_for
from infra.settings import settings

PAGE = 200
"""Runs that one request to the API may answer with."""

DEATH_SECONDS = 3.0
"""From the first sign of a dead server to the end of its process."""

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
    private_folder(prefect_home())


@contextmanager
def prefect_api() -> Iterator[str]:
    """The API's URL, in PREFECT_API_URL while the block runs.

    Taken in this order: PREFECT_API_URL, the server that `stillroom up` runs, a child of ours.

    Raises:
        TransientError: the API does not answer, or the child died within the block and that made the block fail.
    """
    prepare_environment()
    before = os.environ.get("PREFECT_API_URL")
    url = before or served()
    server: ServerProcess | None = None
    if url is None:
        port = free_port()
        server = start_api(port)
        url = f"http://127.0.0.1:{port}/api"
    try:
        os.environ["PREFECT_API_URL"] = url
        if server is not None:
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
        if before is None:
            os.environ.pop("PREFECT_API_URL", None)
        else:
            os.environ["PREFECT_API_URL"] = before


def _check(server: ServerProcess, error: Exception) -> None:
    try:
        server.check(DEATH_SECONDS)
    except TransientError as ended:
        raise ended from error


def _send_pending() -> None:
    """Send logs and events that are still in Prefect's queues; later there is no server to take them."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def start_api(port: int, host: str = "127.0.0.1") -> ServerProcess:
    """Start Prefect's API and pages as a child of this process."""
    prepare_environment()
    env = {**os.environ, "PREFECT_UI_API_URL": f"http://{host}:{port}/api"}
    env.pop("PREFECT_API_URL", None)
    args = ["--factory", "prefect.server.api.server:create_app", "--host", host, "--port", str(port)]
    # Without --app-dir uvicorn puts the working folder first on the import path.
    args += ["--log-level", "warning", "--app-dir", str(log_folder())]
    return ServerProcess("prefect", "uvicorn", args, env)


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
    """The file in which `stillroom up` writes its process id and addresses."""
    return settings().home.resolve() / "services.json"


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def process_tag(pid: int | None = None) -> str:
    """The tag of a process: host, pid and start time (a pid alone is used again)."""
    process = psutil.Process(pid or os.getpid())
    return f"proc:{socket.gethostname()}:{process.pid}:{int(process.create_time())}"


def is_dead(tag: str) -> bool:
    """Whether the tag names a process of this host that is gone; other hosts' are not ours to judge."""
    host, pid, start = tag.removeprefix("proc:").rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        return int(psutil.Process(int(pid)).create_time()) != int(start)
    except psutil.NoSuchProcess:
        return True


def mark_dead_runs_crashed() -> list[str]:
    """Mark running flow runs of dead processes, and their task runs, Crashed; returns their names."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        FlowRunFilterState,
        FlowRunFilterStateType,
        TaskRunFilter,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
    from prefect.states import Crashed

    live = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    crashed = []
    with get_client(sync_client=True) as client:
        running = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=live))),
            sort=FlowRunSort.START_TIME_DESC,
            limit=PAGE,
        )
        for run in running:
            tag = next((t for t in run.tags if t.startswith("proc:")), None)
            if tag is None or not is_dead(tag):
                continue
            tasks = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
                task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=live))),
                sort=TaskRunSort.EXPECTED_START_TIME_DESC,
                limit=PAGE,
            )
            gone = "the process that ran it is gone"
            for task in tasks:
                client.set_task_run_state(task.id, Crashed(message=gone), force=True)
            client.set_flow_run_state(run.id, Crashed(message=gone), force=True)
            crashed.append(run.name)
    return crashed


class StopWatch:
    """Asks Prefect every `STILLROOM_POLL` seconds whether somebody cancelled the run."""

    def __init__(self, flow_run_id: UUID | None) -> None:
        self.flow_run_id = flow_run_id
        self._requested = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)

    def request(self) -> None:
        """Request a stop from within: the process itself is being stopped."""
        self._requested.set()

    def requested(self) -> bool:
        """Whether the run shall stop."""
        return self._requested.is_set()

    def _watch(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.objects import StateType

        assert self.flow_run_id is not None
        with get_client(sync_client=True) as client:
            while not self._over.wait(settings().poll):
                try:
                    state = client.read_flow_run(self.flow_run_id).state
                except Exception:
                    # An API that does not answer now is no request to stop; the next look may succeed.
                    continue
                if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                    self._requested.set()
                    return

    def __enter__(self) -> StopWatch:
        if self.flow_run_id is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30)
