"""The process that a flow run belongs to, what becomes of a run whose process is gone, and requests to stop.

Prefect does not notice when the process of a flow run dies: neither of one that a person started, nor of one whose
worker was ended with it. Each run therefore has a tag `proc:<host>:<pid>:<start>`; the next run, `stillroom status` and
our workers mark the runs of dead processes as Crashed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any
from uuid import UUID

from infra.lifeline import tie_to_parent
from infra.patience import hurry, patiently, take_time
from infra.servers.process_tag import PREFIX, is_dead, process_tag
from infra.servers.telling import is_api_gone
from infra.settings import settings

PAGE = 200
"""Runs that one request to the API may answer with."""

KNOWN_SECONDS = 5.0
"""For Prefect to know of a task run: it learns of them by events that are on their way."""

WORKER_PID = "STILLROOM_WORKER_PID"
"""Environment variable of the processes that our worker starts: its process id."""

_ENGINE = "PREFECT__FLOW_RUN_ID"  # set in the processes that Prefect's workers and `serve` start, one a run


def is_scheduled() -> bool:
    """Whether a worker or `serve` started this process, so that no person waits for what it says."""
    return bool(os.environ.get(_ENGINE))


def own_this_run(flow_run: Any) -> None:
    """Say that a flow run belongs to this process; one that a worker started dies with its worker.

    Args:
        flow_run: `prefect.client.schemas.objects.FlowRun`, or None outside of a flow.
    """
    if is_scheduled():
        tie_to_parent(int(os.environ.get(WORKER_PID, "0")) or None)
        _hear_one_sigterm()
    tag = process_tag()
    if flow_run is None or tag in flow_run.tags:
        return
    from prefect.client.orchestration import get_client

    # A run that is tried again belonged to another process before.
    others = [known for known in flow_run.tags if not known.startswith(PREFIX)]

    def own() -> None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=[*others, tag])

    patiently(own, is_api_gone)


def _hear_one_sigterm() -> None:
    """Let the first SIGTERM end the run in order, and no second one cut that short.

    In Prefect's Helm chart a pod that ends sends it to all processes at once, and our worker then to each of its runs.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        return

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        before(number, frame)

    signal.signal(signal.SIGTERM, once)


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
            tag = next((t for t in run.tags if t.startswith(PREFIX)), None)
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


def mark_cancelled(tag: str, *, asked: bool = False) -> None:
    """Set the flow runs of a process that have not ended to Cancelled, whatever the process still does.

    Args:
        tag: of the process.
        asked: only those that are Cancelling.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
    from prefect.states import Cancelled

    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])), limit=PAGE)
        for run in found:
            if asked and (run.state is None or not run.state.is_cancelling()):
                continue
            if run.state is None or not run.state.is_final():
                client.set_flow_run_state(run.id, Cancelled(message="stopped on request"), force=True)


def mark_tasks_cancelled(task_runs: Sequence[UUID], why: str) -> None:
    """Set task runs of a run that stops to Cancelled: Prefect leaves those that never began or ended as they were."""
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled

    if task_runs:
        EventsWorker.drain_all(timeout=4)
    left, end = list(task_runs), time.monotonic() + KNOWN_SECONDS
    with get_client(sync_client=True) as client:
        while left and time.monotonic() < end:
            unknown = []
            for one in left:
                try:
                    client.set_task_run_state(one, Cancelled(message=why), force=True)
                except ObjectNotFound:
                    unknown.append(one)
            left = unknown
            if left:
                time.sleep(0.2)


class StopWatch:
    """Asks Prefect every `STILLROOM_POLL` seconds whether somebody cancelled the run.

    Args:
        heard: called when somebody did.
    """

    def __init__(self, flow_run_id: UUID | None, heard: Callable[[], None] = lambda: None) -> None:
        self.flow_run_id, self._heard = flow_run_id, heard
        self._requested = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)

    def request(self) -> None:
        """Request a stop from within: the process itself is being stopped."""
        self._requested.set()
        hurry()

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
                    self.request()
                    self._heard()
                    return

    def __enter__(self) -> StopWatch:
        take_time()
        if self.flow_run_id is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30)
