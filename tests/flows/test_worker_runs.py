"""Runs that a worker, `serve` or a shell starts: cancelled, or their worker ends; no run and no process is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from flows.interrupts import STATE_SECONDS, STOP_SECONDS
from infra.settings import settings
from tests.databases import AUTH
from tests.flows.long_run import forget_checkpoints, training
from tests.line import SPEC, Place
from tests.prefect_client import Api, wait_until

NAME = "worked"  # deployments of other tests stay on the server that all share
LONG = (
    SPEC.replace("name: small", f"name: {NAME}")
    .replace("steps: 24", "steps: 1000000")
    .replace("labelled: 48", "labelled: 32")
)
POOL = "of-these-tests"
STARTED: list[subprocess.Popen[bytes]] = []
SERVE = """
from prefect import serve
from prefect.deployments.runner import EntrypointType
from flows.retrain import retrain
module = EntrypointType.MODULE_PATH
serve(retrain.to_deployment("served", parameters={"spec": "small.yaml"}, entrypoint_type=module))
"""


@pytest.fixture(scope="module")
def api(prefect_server: str) -> Api:
    return Api(prefect_server, AUTH)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    """A line whose teacher learns for days, deployed to a pool."""
    made = Place(tmp_path_factory.mktemp("worker"), text=LONG, api=prefect_server)
    made.json("deploy", "small.yaml", "--work-pool", POOL, "--cron", "", "--verify-cron", "", "--poll-minutes", "0")
    return made


def start(place: Place, *arguments: str) -> subprocess.Popen[bytes]:
    env = {**place.environment, "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(place.root / "home/prefect")}
    env |= {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "STILLROOM_POLL": "60"}  # only signals are heard in time
    with (place.root / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *arguments], env=env, cwd=place.root, stdout=log, stderr=log)
    STARTED.append(process)
    return process


def worker(place: Place) -> subprocess.Popen[bytes]:
    """Our worker, as `stillroom up` starts it."""
    return start(place, "-m", "infra.lifeline", "infra.servers.pool_worker", POOL)


def serve(place: Place) -> subprocess.Popen[bytes]:
    return start(place, "-c", SERVE)


def begun(place: Place, api: Api, process: subprocess.Popen[bytes], deployment: str = NAME) -> dict[str, Any]:
    """A new run that trains."""
    place.wait_until(process, lambda p: any(word in (p.root / "log").read_text() for word in ("started!", "served")))
    deployment = api.get(f"/deployments/name/retrain/{deployment}")["id"]
    run = api.post(f"/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    place.wait_until(process, training)
    return dict(run)


@pytest.fixture(autouse=True)
def cleared(place: Place) -> Iterator[None]:
    yield
    for process in place.processes():
        process.kill()
    psutil.wait_procs(place.processes(), timeout=30)
    while STARTED:
        STARTED.pop().wait()
    forget_checkpoints(place)
    (place.root / "log").unlink()


def state_of(api: Api, run: dict[str, Any]) -> str:
    return str(api.get(f"/flow_runs/{run['id']}")["state"]["type"])


@pytest.mark.parametrize("start", [worker, serve])
def test_a_cancelled_run_ends_cancelled_with_all_of_its_stages(
    place: Place, api: Api, start: Callable[[Place], subprocess.Popen[bytes]]
) -> None:
    process = start(place)
    run = begun(place, api, process, "served" if start is serve else NAME)
    own = psutil.Process(process.pid)
    api.post(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: state_of(api, run) == "CANCELLED", 60)
    wait_until(lambda: not [child for child in own.children() if child.status() != psutil.STATUS_ZOMBIE], 30)
    assert [one for one in place.processes() if one.pid != process.pid] == []
    ended_by_itself(place, api, run)


def ended_by_itself(place: Place, api: Api, run: dict[str, Any]) -> None:
    """The run heard the request and told of every stage: neither its own deadline nor a worker's SIGKILL came first."""
    tasks = api.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    states = {task["state"]["name"] for task in tasks}
    # What the run before has made is found.
    assert "Cancelled" in states
    assert states <= {"Completed", "Cached", "Cancelled"}
    assert len(tasks) > 5
    assert "status code: -9" not in (place.root / "log").read_text()
    # A worker asks by SIGTERM, and by SIGKILL after 30 s; in a shell it takes a look until a request is heard.
    assert settings().poll + STOP_SECONDS + STATE_SECONDS < 30


def test_a_run_of_a_shell_that_is_cancelled_in_the_pages_ends(place: Place, api: Api) -> None:
    process = place.start("retrain", "small.yaml")
    STARTED.append(process)
    place.wait_until(process, training)
    (run,) = api.post("/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    api.post(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert process.wait(60) == 1
    assert state_of(api, run) == "CANCELLED"
    assert place.processes() == []
    ended_by_itself(place, api, run)


@pytest.mark.parametrize("all_at_once", [False, True])
def test_a_worker_that_is_asked_to_end_ends_its_runs_first(place: Place, api: Api, all_at_once: bool) -> None:
    process = worker(place)
    run = begun(place, api, process)
    # As a container's first process does it; the worker asks its runs a second time.
    for engine in psutil.Process(process.pid).children() if all_at_once else []:
        engine.terminate()
    process.terminate()
    process.wait(60)
    assert state_of(api, run) == "CRASHED"
    assert psutil.wait_procs(place.processes(), timeout=30)[1] == []


def test_runs_of_a_killed_worker_end_with_it_and_are_told_of_at_the_next_start(place: Place, api: Api) -> None:
    process = worker(place)
    run = begun(place, api, process)
    process.kill()
    process.wait()
    assert psutil.wait_procs(place.processes(), timeout=30)[1] == []
    assert state_of(api, run) == "RUNNING"
    worker(place)
    wait_until(lambda: state_of(api, run) == "CRASHED")
