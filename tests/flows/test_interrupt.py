"""Ctrl-C in a terminal, which goes to every process of the group: one line, state Cancelled, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from infra.servers.answer import basic
from tests.databases import AUTH
from tests.line import SPEC, TWO_WORKERS, Place

LONG = SPEC.replace("steps: 24", "steps: 1000000").replace("labelled: 48", "labelled: 32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    """A line whose teacher learns for days."""
    return Place(tmp_path_factory.mktemp("interrupted"), text=LONG, api=prefect_server)


@pytest.fixture
def run(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A run that trains, in a process group of its own, as a shell starts it."""
    # Python's own warnings about libraries are not what a person sees.
    env = {**place.environment, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "flows.cli", "retrain", str(place.spec), "--upto", "teach", *TWO_WORKERS]
    with (place.root / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=place.root, stdout=log, stderr=log, start_new_session=True)
    place.wait_until(process, lambda p: any((p.store / "checkpoints").rglob("*.pt")))
    yield process
    process.kill()
    process.wait()
    for path in (place.store / "checkpoints").rglob("*.*"):
        path.unlink()


def last_state(url: str) -> str:
    """State of the newest flow run."""
    body = json.dumps({"sort": "START_TIME_DESC", "limit": 1}).encode()
    headers = {"content-type": "application/json", "authorization": basic(AUTH)}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/flow_runs/filter", body, headers), timeout=60) as answer:
        runs: list[dict[str, Any]] = json.load(answer)
    return str(runs[0]["state"]["type"])


def test_the_first_interrupt_cancels_in_one_line(
    place: Place, run: subprocess.Popen[bytes], prefect_server: str
) -> None:
    before = (place.root / "log").read_text()
    began = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) == 1
    assert time.monotonic() - began < 30
    said = (place.root / "log").read_text().removeprefix(before).splitlines()
    # The training's first line of progress may have been on its way.
    ours = [line for line in said if not line.startswith("teacher big")]
    assert ours == ["error: stopped on request; what was made stays in the store"]
    assert last_state(prefect_server) == "CANCELLED"
    assert psutil.wait_procs(place.processes(), timeout=30)[1] == []


def test_a_second_interrupt_ends_at_once(place: Place, run: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    while run.poll() is None and time.monotonic() - began < 5:  # two at the same moment are one
        os.killpg(run.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            run.wait(0.2)
    assert run.wait(60) == 130
    assert time.monotonic() - began < 5
    assert psutil.wait_procs(place.processes(), timeout=30)[1] == []
