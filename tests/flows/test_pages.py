"""What a person sees in the pages of `stillroom up`, in a real browser, and can ask of a run there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.flows.conftest import Served, serving
from tests.flows.long_run import LONG, forget_checkpoints, training
from tests.line import Place


@pytest.fixture(scope="module")
def served(place: Place, first: dict[str, Any]) -> Iterator[Served]:
    """What `stillroom up` serves of the line's home, for all pages."""
    with serving(place) as found:
        yield found


def test_stages_states_and_report_can_be_read(place: Place, served: Served, first: dict[str, Any], page: Page) -> None:
    place.json("retrain", str(place.spec))
    run = served.runs()[0]
    page.add_init_script(f"localStorage.setItem('prefect-password', '{served.token}')")
    page.goto(f"{served.prefect}/runs/flow-run/{run['id']}")
    expect(page.get_by_text("small", exact=True).first).to_be_visible(timeout=60_000)
    page.get_by_text("Task Runs", exact=True).click()
    expect(page.get_by_text("student taught seed 0", exact=True).first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Cached", exact=True).first).to_be_visible(timeout=30_000)
    page.get_by_text("Artifacts", exact=True).click()
    expect(page.get_by_text("0 of phantom-fundus's files are kept out").first).to_be_visible(timeout=30_000)
    page.get_by_text("Report of small").first.click()
    expect(page.get_by_text("Does teaching help?").first).to_be_visible(timeout=30_000)


def test_mlflow_shows_the_registered_student(served: Served, first: dict[str, Any], page: Page) -> None:
    page.goto(f"{served.mlflow}/#/models/small/versions/1")
    expect(page.get_by_text("stillroom.key").first).to_be_visible(timeout=60_000)


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


def test_both_servers_write_a_log(place: Place, served: Served) -> None:
    assert {path.name for path in (place.root / "home" / "logs").iterdir()} == {"prefect.log", "mlflow.log"}
