"""What people read of a run first: its page while it goes on, and when it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.glance import glance_page
from flows.step_times import StepTimes
from tasks.pipeline.graph import Graph, Step
from tasks.pipeline.stage import Stage, slug

ASKED = {"model": "eyes", "version": "3", "champion": "2", "approver": "Dr. Ito (as typed)", "new": True}
FOUND: dict[str, Any] = {
    "upto": "register",
    "why": "50 images are new since the last training",
    "new": 50,
    "images": 4000,
    "ungradable": 12,
    "quarantined": 3,
    "cached": ["ingest"],
    "made": ["label big", "distill taught seed 0"],
    "gate": "passed",
    "gate_why": "",
    "verdict": "passed every rule (9)",
    "difference": "+0.012 [-0.004, 0.030] AUC",
    "worst_site": "B: AUC 0.710",
    "drift": "none",
    "drift_why": "none: no signal is above its limit",
    "approval": {**ASKED, "asked": "version 3 waits for approval", "link": "http://x/runs/flow-run/1", "run": "1"},
    "device_hours": 1.25,
    "devices": "1 GPU",
    "seconds": 4500.0,
}


def test_the_page_says_everything_in_plain_lines() -> None:
    page = glance_page("small", FOUND)
    assert page.key == f"glance-of-{slug('small')}"
    text = str(page.content)
    assert text.startswith("# small: passed; version 3 waits for approval\n")
    for line in (
        "| challenger minus champion | +0.012 [-0.004, 0.030] AUC |",
        "| approval | version 3 waits for approval ([decide](http://x/runs/flow-run/1)) |",
        "| serves now | version 2, approved by Dr. Ito (as typed) |",
        "| drift since the champion | none: no signal is above its limit |",
        "| worst site | B: AUC 0.710 |",
        "| new since the last training | 50 |",
        "| ungradable | 12 |",
        "| quarantined (could not be read) | 3 |",
        "| made | label big, distill taught seed 0 |",
        "| found in the store | 1 of 3 steps |",
        "| took | 75 min; 1.25 device hours (1 GPU) |",
    ):
        assert line in text


def test_a_run_that_ended_early_says_what_it_made() -> None:
    nothing = dict.fromkeys(("gate", "gate_why", "difference", "worst_site", "drift"))
    asked = {**dict.fromkeys(FOUND["approval"], ""), "asked": "nobody is asked: this run registered no version"}
    page = glance_page("small", {**FOUND, **nothing, "approval": asked, "device_hours": 0.0})
    text = str(page.content)
    assert text.startswith("# small: Made: label big, distill taught seed 0\n")
    assert "| took | 75 min |" in text
    assert "serves now" not in text


def steps() -> list[Step]:
    graph = Graph()
    stage = Stage("label", lambda *_, **__: None)  # type: ignore[arg-type, return-value]
    return [graph.add(stage, title, title) for title in ("label one", "label two")]


def test_the_time_left_is_that_of_the_last_time(home: Path) -> None:
    first, second = steps()
    times = StepTimes("small")
    times.expect([first, second])
    assert times.left is None
    assert times.left_text.startswith("not known")
    for step in (first, second):
        times.ended(step, made=True)
    assert times.left_text == "none"
    assert times.device_seconds == sum(times.made.values()) > 0

    again = StepTimes("small")
    again.expect([first, second])
    assert again.left is not None
    assert again.left_text == "seconds"
    again.ended(first, made=False)
    assert first not in again.made
    other = StepTimes("other")
    other.expect([first])
    assert other.left is None


@pytest.mark.parametrize(("seconds", "said"), [(12.0, "12 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_durations_are_told_in_a_unit_that_people_use(seconds: float, said: str) -> None:
    page = glance_page("small", {**FOUND, "seconds": seconds})
    assert f"| took | {said}; " in str(page.content)
