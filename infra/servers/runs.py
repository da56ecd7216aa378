"""Runs and the processes that carry them: tags, dead runs, requests to stop.

A flow run that somebody started by hand has no Prefect worker that would notice its death, so each run is
tagged `proc:<host>:<pid>:<start>`, and whoever comes next marks the runs of dead processes Crashed.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import Any
from uuid import UUID

import psutil

from infra.settings import settings

PAGE = 200
"""Runs that one question to the API may answer with."""


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


def reap() -> list[str]:
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
    reaped = []
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
            reaped.append(run.name)
    return reaped


class StopWatch:
    """Asks Prefect every `STILLROOM_POLL` seconds whether somebody cancelled the run."""

    def __init__(self, flow_run_id: UUID | None) -> None:
        self.flow_run_id = flow_run_id
        self._asked = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)

    def ask(self) -> None:
        """Ask from within: the process itself is being stopped."""
        self._asked.set()

    def requested(self) -> bool:
        """Whether the run shall stop."""
        return self._asked.is_set()

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
                    self._asked.set()
                    return

    def __enter__(self) -> StopWatch:
        if self.flow_run_id is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30)
