"""SIGKILL in the middle of each stage: nothing is left running, nothing is lost, only what is missing is made.

One line is killed in one stage after the other; each test goes on where the one before it left the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.storage.store import LocalStore
from tests.databases import shared_api
from tests.line import TWO_WORKERS, Place, digests

UNTIL = "distill"


@dataclass
class Killed:
    """A line that was killed again and again."""

    place: Place
    times: dict[Path, int] = field(default_factory=dict)  # of the unit records after the last kill
    kills: int = 0

    def units(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (self.place.store / "units").rglob("*.json")}

    def untouched(self) -> bool:
        """Whether what stood after the last kill was not made again."""
        return {path: time for path, time in self.units().items() if path in self.times} == self.times


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return Killed(Place(tmp_path_factory.mktemp("killed")))


@pytest.fixture(scope="module")
def served(killed: Killed) -> Iterator[Killed]:
    """The same line, from now on beside an API over its home that no kill ends."""
    with shared_api(killed.place.root / "home") as url:
        killed.place.api = url
        yield killed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Place, dict[str, Any]]:
    place = Place(tmp_path_factory.mktemp("undisturbed"), api=prefect_server)
    return place, place.json(UNTIL, str(place.spec))


def some_of(folder: str, pattern: str, least: int) -> Callable[[Place], bool]:
    return lambda place: len(list((place.store / folder).rglob(pattern))) >= least


def kill_once(killed: Killed, begun: Callable[[Place], bool], *more: str) -> None:
    place = killed.place
    process = place.start(UNTIL, str(place.spec), *more)
    place.wait_until(process, begun)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(place.processes(), timeout=30)
    assert alive == []
    assert killed.untouched()
    killed.times, killed.kills = killed.units(), killed.kills + 1


def test_nothing_of_a_killed_run_is_left_running_and_its_api_neither(killed: Killed) -> None:
    kill_once(killed, some_of("units/ingest", "*.json", 1), *TWO_WORKERS)


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(some_of("checkpoints", "*.pt", 1), id="teach"),
        pytest.param(some_of("units/label", "*.json", 1), id="label"),
        pytest.param(some_of("models", "*.safetensors", 3), id="distill"),
    ],
)
def test_nothing_of_a_killed_run_is_left_running_or_made_again(begun: Callable[[Place], bool], served: Killed) -> None:
    kill_once(served, begun)


def test_the_next_run_makes_the_rest_as_if_nothing_had_happened(
    served: Killed, undisturbed: tuple[Place, dict[str, Any]]
) -> None:
    outcome = served.place.json(UNTIL, str(served.place.spec))
    untouched, truth = undisturbed
    assert digests(outcome)["ingest"] == digests(truth)["ingest"]
    assert digests(outcome)["label big"] == digests(truth)["label big"]
    for folder in ("shards/", "models/"):
        names = [LocalStore(place.store).sizes(folder).keys() for place in (served.place, untouched)]
        assert names[0] == names[1]
    assert served.untouched()


def test_every_killed_run_is_shown_as_crashed(served: Killed) -> None:
    states = [run["state"] for run in served.place.json("status")["runs"]]
    assert sorted(states) == ["Completed", *["Crashed"] * served.kills]
