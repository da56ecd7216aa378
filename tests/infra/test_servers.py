"""Servers that run as our children: a real Prefect API, log files, errors that quote them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.errors import TransientError, UsageError
from infra.servers.prefect_api import free_port, prefect_api, start_api
from infra.servers.server_process import ServerProcess, log_folder, wait_for
from infra.settings import reload_settings

START = 120.0  # seconds; a fresh database on a slow machine


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    for attempt in range(5):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # The database is busy; Prefect's own client tries again too.
            if error.code != 503 or attempt == 4:
                raise
            time.sleep(1.0 + attempt)
    return None


def wait_until(condition: Callable[[], Any], seconds: float = START) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came in time"
        time.sleep(0.5)
    return found


def test_a_schedule_fires(prefect_server: str) -> None:
    flow = post(f"{prefect_server}/flows/", {"name": "tiny"})
    schedule = {"schedule": {"interval": 3600.0}, "active": True}
    body = {"name": "hourly", "flow_id": flow["id"], "schedules": [schedule], "enforce_parameter_schema": False}
    deployment = post(f"{prefect_server}/deployments/", body)
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    runs = wait_until(lambda: post(f"{prefect_server}/flow_runs/filter", wanted))
    assert {run["state"]["type"] for run in runs} == {"SCHEDULED"}
    assert {run["auto_scheduled"] for run in runs} == {True}


def test_prefects_command_lists_work_pools(prefect_server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prefect", "work-pool", "ls"]
    env = {**os.environ, "PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def kill_the_api() -> None:
    with prefect_api() as url:
        port = url.removesuffix("/api").rpartition(":")[2]
        (server,) = [child for child in psutil.Process().children() if port in child.cmdline()]
        server.kill()
        wait_until(lambda: server.status() == psutil.STATUS_ZOMBIE)
        urllib.request.urlopen(f"{url}/health")


def test_an_api_that_dies_under_a_run_is_named_with_its_log(
    migrated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with pytest.raises(TransientError, match=r"prefect server ended with exit code -9; .*logs/prefect\.log"):
        kill_the_api()


def test_a_usage_error_stays_one(prefect_server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("PREFECT_HOME", str(home))
    with pytest.raises(UsageError), prefect_api():
        raise UsageError("the spec is wrong")


def test_a_server_whose_port_is_taken_says_so(home: Path) -> None:
    port = free_port()
    first = ServerProcess("files", "http.server", [str(port), "--bind", "127.0.0.1"])
    try:
        wait_for(f"http://127.0.0.1:{port}", first)
        second = ServerProcess("files", "http.server", [str(port), "--bind", "127.0.0.1"])
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(
            TransientError, match=r"(?s)exit code 1; its output is in .*files\.log.*Address already in use"
        ):
            wait_for(url, second)
    finally:
        first.stop()


def test_a_server_that_does_not_answer_is_named_with_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_API_TIMEOUT", "0.5")
    reload_settings()
    server = ServerProcess("files", "http.server", ["0", "--bind", "127.0.0.1"])
    try:
        with pytest.raises(TransientError, match=r"in 0\.5 s; its output is in .*files\.log"):
            wait_for(f"http://127.0.0.1:{free_port()}", server)
    finally:
        server.stop()


def test_a_long_log_is_put_aside(home: Path) -> None:
    log = log_folder() / "files.log"
    log.touch()
    os.truncate(log, 11_000_000)
    ServerProcess("files", "http.server", ["0"]).stop()
    assert log.stat().st_size < 1_000_000
    assert log.with_suffix(".log.1").stat().st_size == 11_000_000


def test_prefects_api_refuses_a_port_that_is_taken(migrated_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(migrated_home / "prefect"))
    monkeypatch.setenv("STILLROOM_API_TIMEOUT", "60")
    reload_settings()
    files = ServerProcess("files", "http.server", [str(port := free_port()), "--bind", "127.0.0.1"])
    try:
        wait_for(f"http://127.0.0.1:{port}", files)
        server = start_api(port)
        # A slow machine may see Prefect hang in its shutdown, when that comes before all of its services have begun.
        with pytest.raises(TransientError, match=r"(?s)prefect\.log and ends with:.*address already in use"):
            wait_for(f"http://127.0.0.1:{port}/api/health", server)
        server.stop()
    finally:
        files.stop()
