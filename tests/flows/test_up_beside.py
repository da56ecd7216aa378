"""`stillroom up` beside Prefect and MLflow servers that run already: it uses them, and starts what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.servers.prefect_api import free_port
from tests.databases import AUTH
from tests.line import WITHOUT_CLUSTER, Place
from tests.mlflowserver import MlflowServer
from tests.prefect_client import Api, wait_until

NAME = "beside"
ADMIN = ("admin", "an administrator's password")
# No model of this file is trained: a run goes as far as its ingest.
TEXT = WITHOUT_CLUSTER.replace("name: small", f"name: {NAME}")
_AUTH_INI = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
workspace_cache_max_size = 10000
workspace_cache_ttl_seconds = 3600
auth_cache_max_size = 10000
auth_cache_ttl_seconds = 0
"""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server with users."""
    pytest.importorskip("flask_wtf", reason="the extra `servers` is not installed")
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "auth.ini").write_text(_AUTH_INI.format(folder=folder))
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test"}
    env["MLFLOW_AUTH_ADMIN_PASSWORD"] = ADMIN[1]
    server = MlflowServer(folder, more=("--app-name", "basic-auth"), env=env).start()
    yield server
    server.kill()


class Beside(Place):
    """A machine on which both servers are set, as a hospital's administrator does it."""

    servers: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.servers}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str, mlflow: MlflowServer) -> Beside:
    made = Beside(tmp_path_factory.mktemp("beside"), text=TEXT)
    made.servers = {
        "PREFECT_API_URL": prefect_server,
        "PREFECT_API_AUTH_STRING": AUTH,
        "MLFLOW_TRACKING_URI": mlflow.url,
        "MLFLOW_TRACKING_USERNAME": ADMIN[0],
        "MLFLOW_TRACKING_PASSWORD": ADMIN[1],
    }
    return made


PAGE = f"http://127.0.0.1:{free_port()}"
OPTIONS = [
    "--page-port",
    PAGE.rpartition(":")[2],
    "--dask-port",
    str(free_port()),
    "--dask-page-port",
    str(free_port()),
]


@pytest.fixture(scope="module")
def up(place: Beside) -> Iterator[subprocess.Popen[bytes]]:
    times = ["--cron", "", "--verify-cron", "", "--poll-minutes", "0", "--pool", "beside-pool"]
    process = place.start("up", "small.yaml", "--workers", "1", *times, *OPTIONS)
    place.wait_until(process, lambda p: f"Page     {PAGE}" in (p.root / "log").read_text())
    yield process
    process.terminate()
    process.wait(120)


def services() -> dict[str, dict[str, Any]]:
    with urllib.request.urlopen(f"{PAGE}/services", timeout=60) as answer:
        return {one["name"]: one for one in json.load(answer)}


def test_only_what_is_missing_is_started(up: subprocess.Popen[bytes], place: Beside, mlflow: MlflowServer) -> None:
    found = services()
    assert list(found) == ["prefect", "mlflow", "dask scheduler", "dask workers", "worker beside-pool"]
    assert {one["state"] for one in found.values()} == {"running"}
    assert all("not ours" in found[name]["says"] for name in ("prefect", "mlflow"))
    assert found["prefect"]["link"] == place.servers["PREFECT_API_URL"].removesuffix("/api")
    assert found["mlflow"]["link"] == mlflow.url
    said = " ".join(word for child in psutil.Process(up.pid).children() for word in child.cmdline())
    assert "uvicorn" not in said
    assert "mlflow_server" not in said


def test_the_note_and_the_log_hold_no_password(up: subprocess.Popen[bytes], place: Beside) -> None:
    told = (place.root / "home" / "services.json").read_text() + (place.root / "log").read_text()
    assert ADMIN[1] not in told
    assert AUTH.partition(":")[2] not in told


def test_specs_are_deployed_there_and_our_worker_runs_them(up: subprocess.Popen[bytes], place: Beside) -> None:
    api = Api(place.servers["PREFECT_API_URL"], AUTH)
    deployment = api.get(f"/deployments/name/ingest/{NAME}")
    assert deployment["work_pool_name"] == "beside-pool"
    run = api.post(f"/deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    wait_until(lambda: api.get(f"/flow_runs/{run['id']}")["state"]["type"] == "COMPLETED", 300)
    assert list((place.store / "shards").rglob("*.tar"))


def test_the_status_asks_the_server_that_is_used(up: subprocess.Popen[bytes], place: Beside) -> None:
    servers = dict(place.servers)
    # The address stands in the note of `up`; what the server wants to hear does not.
    del place.servers["PREFECT_API_URL"]
    try:
        found = place.json("status")
    finally:
        place.servers = servers
    assert f"ingest/{NAME}" in {row["name"] for row in found["deployments"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PREFECT_API_AUTH_STRING": "stillroom:wrong"}, "PREFECT_API_AUTH_STRING"),
        ({"MLFLOW_TRACKING_PASSWORD": "wrong"}, "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ({"PREFECT_API_URL": "http://127.0.0.1:1/api"}, "nobody listens there"),
    ],
)
def test_a_server_that_refuses_us_is_named_and_nothing_starts(
    place: Beside, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    env = {**place.environment, **changes, "STILLROOM_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "flows.cli", "up", "--no-worker", "--no-dask", "--page-port", str(free_port())]
    done = subprocess.run(command, env=env, cwd=place.root, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert said in done.stderr
    assert "wrong" not in done.stderr
    assert not os.path.lexists(tmp_path / "home" / "services.json")
