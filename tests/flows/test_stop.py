"""A run that is asked to stop does so, says so, and leaves nothing running."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.conftest import Served
from tests.line import Place

LONG = ("--set", "student.train.steps=1000000", "--set", "student.train.checkpoint_every=20")


def training(place: Place) -> bool:
    """Whether the long student has begun."""
    return any((place.store / "checkpoints").rglob("*.pt"))


def forget_checkpoints(place: Place) -> None:
    for path in (place.store / "checkpoints").rglob("*.*"):
        path.unlink()


def test_a_cancelled_run_stops_itself(place: Place, served: Served, first: dict[str, Any]) -> None:
    process = place.start("distill", str(place.spec), *LONG)
    place.wait_until(process, training)
    (run,) = [run for run in served.runs() if run["state"]["type"] == "RUNNING"]
    served.ask(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}, "force": True})
    assert process.wait(120) == 1
    (after,) = [r for r in served.runs() if r["id"] == run["id"]]
    assert after["state"]["type"] == "CANCELLED"
    assert "stopped on request" in (place.root / "log").read_text()
    forget_checkpoints(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_soon(place: Place, first: dict[str, Any], number: signal.Signals) -> None:
    process = place.start("distill", str(place.spec), *LONG)
    place.wait_until(process, training)
    process.send_signal(number)
    assert process.wait(90) != 0
    _, alive = psutil.wait_procs(place.processes(), timeout=30)
    assert alive == []
    forget_checkpoints(place)


def test_a_spec_that_names_no_folder_changes_nothing(place: Place, first: dict[str, Any], tmp_path: Path) -> None:
    done = place.run(
        "retrain",
        str(place.spec),
        "--set",
        f"corpus.root={tmp_path / 'nowhere'}",
        "--set",
        "corpus.adapter=eyepacs",
        "--set",
        "corpus.phantom=null",
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
