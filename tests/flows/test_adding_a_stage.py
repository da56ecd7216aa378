"""A stage is one file and one line: a toy stage is added, and all that reads the line knows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.storage.store import LocalStore
from tasks.maintenance.gc import collect
from tasks.spec import load_spec
from tests.flows.longer_line import longer
from tests.line import Place

ROOT = Path(__file__).parents[2]


class ToyPlace(Place):
    """A place whose command has the longer line."""

    def command(self, *arguments: str) -> dict[str, Any]:
        """`stillroom ... --json`, which must succeed."""
        environment = {**self.environment, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.flows.longer_line", *arguments, "--json"]
        done = subprocess.run(
            command, env=environment, cwd=self.root, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return dict(json.loads(done.stdout))

    @property
    def manifest(self) -> str:
        """Name of the toy's manifest."""
        (name,) = LocalStore(self.store).sizes("manifests/toy/")
        return name

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders that the stages of the longer line write to."""
        return longer(load_spec(self.spec)).folders


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> ToyPlace:
    return ToyPlace(tmp_path_factory.mktemp("toy"), api=prefect_server)


@pytest.fixture(scope="module")
def result(place: ToyPlace) -> dict[str, Any]:
    """Of a run up to the toy stage."""
    return place.command("retrain", str(place.spec), "--upto", "toy")


def test_the_flow_runs_it_and_upto_ends_with_it(result: dict[str, Any]) -> None:
    assert [stage["stage"] for stage in result["stages"]] == ["ingest", "toy"]
    assert result["results"]["toy"] == {"number": 3}


def test_plan_knows_it(place: ToyPlace, result: dict[str, Any]) -> None:
    found = place.command("plan", str(place.spec))
    states = {stage["stage"]: stage["state"] for stage in found["stages"]}
    assert (states["ingest"], states["toy"], states["evaluate"]) == ("cached", "cached", "to do")


def test_what_it_made_is_among_the_roots_of_gc(place: ToyPlace, result: dict[str, Any]) -> None:
    spared = collect(LocalStore(place.store), folders=place.folders, grace_hours=0)
    assert spared.kept_objects > 0
    assert not [item.name for item in spared.items]


def test_gc_removes_it_once_its_runs_are_old(place: ToyPlace, result: dict[str, Any]) -> None:
    plan = collect(LocalStore(place.store), folders=place.folders, grace_hours=0, keep_days=0)
    gone = {item.name for item in plan.items}
    assert place.manifest in gone
    assert any(name.startswith("toys/") for name in gone)
