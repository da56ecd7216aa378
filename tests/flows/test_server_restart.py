"""Prefect's server is gone for half a minute in the middle of a run that holds a limit; the run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from infra.servers.prefect_api import free_port, start_api
from infra.servers.server_process import ServerProcess, wait_for
from tests.databases import AUTH, migrated_settings
from tests.flows.long_run import training
from tests.line import SPEC, Place
from tests.prefect_client import Api, wait_until

LONG = SPEC.replace("steps: 24", "steps: 1000000").replace("labelled: 48", "labelled: 32")
POOL = "of-this-test"
OUTAGE = 27.0  # seconds; the lease is renewed every 22


class Server:
    """A Prefect API on one port, which comes and goes."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def start(self) -> None:
        with migrated_settings(self.home), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_SERVER_API_AUTH_STRING", AUTH)
            patch.setenv("PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION", "30")
            self.process = start_api(self.port)
            wait_for(f"{self.url}/health", self.process)

    def kill(self) -> None:
        assert self.process is not None
        psutil.Process(self.process.pid).kill()
        self.process.stop()

    def lease_ends(self) -> datetime:
        """When the one lease would end, if nobody renewed it."""
        folder = self.home / "prefect" / "concurrency_leases"
        (lease,) = [path for path in folder.glob("*.json") if path.name != "expirations.json"]
        return datetime.fromisoformat(json.loads(lease.read_text())["expiration"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


def test_a_run_that_holds_a_limit_survives_a_restart(server: Server, tmp_path: Path) -> None:
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
