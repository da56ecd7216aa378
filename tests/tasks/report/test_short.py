"""The lines that people read first, of a student that passed, failed, or had nobody to be compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.report import short
from tasks.report.page import page_of
from tests.tasks.report.conftest import JudgedLine

FAILS = {"rule": "sensitivity", "verdict": "failed", "figure": "0.71", "asks": "at least 0.85"}
PASSES = {"rule": "patients", "verdict": "passed", "figure": "40 test patients", "asks": "at least 30"}


def gate(verdict: str, *rules: dict[str, str], champion: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"verdict": verdict, "rules": list(rules), "why": "", "champion": champion}


def test_the_rules_that_decided_against_a_student_are_named() -> None:
    assert short.verdict_text(gate("passed", PASSES)) == "passed every rule (1)"
    assert short.verdict_text(gate("failed", PASSES, FAILS)) == "failed: sensitivity (failed)"
    assert short.verdict_text(gate("passed")) == "passed: no rule was asked for"


def test_the_difference_to_the_champion_has_its_interval_or_a_reason() -> None:
    told = {"version": "2", "metric": "auc", "new": 0.81, "champion": 0.79, "reason": None}
    found = {**told, "difference": {"value": 0.02, "interval": [-0.004, 0.041]}}
    line = short.difference_text(gate("passed", champion=found))
    assert line.startswith("+0.020 [-0.004, 0.041] AUC")
    assert "0.810, version 2 0.790" in line
    same = {**told, "difference": None, "reason": "version 2 is this student: nothing to compare"}
    assert short.difference_text(gate("passed", champion=same)).endswith("is this student: nothing to compare")
    assert "no champion" in short.difference_text(gate("passed"))


@pytest.mark.parametrize(
    ("worst", "said"),
    [
        (
            {"site": {"group": "B", "value": 0.7, "interval": None, "images": 31}},
            "B: AUC 0.700 on 31 images, 0.810 on all",
        ),
        ({"camera": {"group": "X", "value": 0.7, "interval": [0.6, 0.8], "images": 31}}, "worst camera is X"),
        ({}, "not known"),
    ],
)
def test_the_worst_site_is_told_or_what_else_is_known(worst: dict[str, Any], said: str) -> None:
    assert said in short.worst_site_text({"metric": "auc", "groups": {"whole": 0.81, "worst": worst, "by": {}}})


def test_drift_names_its_signals() -> None:
    signals = [
        {"name": "camera mix", "value": 0.4, "limit": 0.1, "drifted": True},
        {"name": "label prior", "value": 0.0, "limit": 0.1, "drifted": False},
    ]
    found = {"verdict": "drift", "why": "the cameras changed", "signals": signals}
    assert short.drift_text(found) == "drift (camera mix): the cameras changed"
    assert short.drift_text(None) == "not looked for"
    assert short.drift_of({"drift": {"drift": found}}) == found
    assert short.drift_of({"drift": found}) == found
    assert short.drift_of({}) is None


def test_they_stand_above_the_rules_on_the_page(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    page = page_of(line.content(), pictures=False).decode()
    glance, rules = page.index('class="glance"'), page.index("<th>rule</th>")
    assert glance < rules
    for name in ("challenger minus champion", "worst site", "ungradable images", "approver"):
        assert glance < page.index(f"<dt>{name}</dt>") < rules
