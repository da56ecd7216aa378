"""SIGKILL in the middle of a stage: nothing is left running, nothing is lost, only what is missing is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.line import Place, digests

UNTIL = "distill"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    return place, place.json(UNTIL, str(place.spec))


def some_of(folder: str, pattern: str, least: int) -> Callable[[Place], bool]:
    return lambda place: len(list((place.store / folder).rglob(pattern))) >= least


@pytest.mark.parametrize(
    ("stage", "begun"),
    [
        ("ingest", some_of("units/ingest", "*.json", 1)),
        ("teach", some_of("checkpoints", "*.pt", 1)),
        ("label", some_of("units/label", "*.json", 1)),
        ("distill", some_of("models", "*.safetensors", 2)),
    ],
)
def test_a_killed_run_is_completed_by_the_next(
    stage: str,
    begun: Callable[[Place], bool],
    tmp_path: Path,
    undisturbed: tuple[Place, dict[str, Any]],
) -> None:
    place = Place(tmp_path)
    process = place.start(UNTIL, str(place.spec))
    place.wait_until(process, begun)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(place.processes(), timeout=30)
    assert alive == []
    made = {path: path.stat().st_mtime_ns for path in (place.store / "units").rglob("*.json")}

    outcome = place.json(UNTIL, str(place.spec))

    untouched, truth = undisturbed
    assert digests(outcome)["ingest"] == digests(truth)["ingest"]
    assert digests(outcome)["label big"] == digests(truth)["label big"]
    assert sorted(place.files("shards")) == sorted(untouched.files("shards"))
    assert sorted(place.files("models")) == sorted(untouched.files("models"))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert any(run["state"] == "Crashed" for run in place.json("status")["runs"])
