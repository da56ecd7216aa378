"""Prefect's server is gone for half a minute in the middle of a run that holds a limit; the run goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.databases import AUTH
from tests.flows.long_run import training
from tests.line import SPEC, Place
from tests.prefect_client import Api, wait_until
from tests.prefectserver import PrefectServer

LONG = SPEC.replace("steps: 24", "steps: 1000000").replace("labelled: 48", "labelled: 32")
POOL = "of-this-test"
OUTAGE = 27.0  # seconds; the lease is renewed every 22


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    made = PrefectServer(tmp_path / "server")
    made.start()
    yield made
    made.kill()


def test_a_run_that_holds_a_limit_survives_a_restart(server: PrefectServer, tmp_path: Path) -> None:
    place = Place(tmp_path / "line", text=LONG, api=server.url)
    place.json("deploy", "small.yaml", "--work-pool", POOL, "--cron", "", "--verify-cron", "", "--poll-minutes", "0")
    env = {**place.environment, "PREFECT_WORKER_QUERY_SECONDS": "5"}
    command = [sys.executable, "-m", "infra.lifeline", "infra.servers.pool_worker", POOL]
    with (place.root / "log").open("ab") as log:
        worker = subprocess.Popen(command, env=env, cwd=place.root, stdout=log, stderr=log)
    try:
        api = Api(server.url, AUTH)
        deployment = api.get("/deployments/name/retrain/small")["id"]
        run = api.post(f"/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})
        place.wait_until(worker, training)
        server.kill()
        threading.Event().wait(OUTAGE)
        server.start()
        again = datetime.now(UTC)
        wait_until(lambda: (server.lease_ends() - again).total_seconds() > 30)
        assert api.get(f"/flow_runs/{run['id']}")["state"]["type"] == "RUNNING"
        second = api.post(f"/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})
        wait_until(lambda: api.get(f"/flow_runs/{second['id']}")["state"]["type"] == "CANCELLED")
    finally:
        worker.kill()
        worker.wait()
        assert psutil.wait_procs(place.processes(), timeout=30)[1] == []
