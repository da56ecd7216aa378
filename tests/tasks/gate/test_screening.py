"""Rules on sensitivity and specificity at the report's operating point."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.gate.rules import FAILED, NOT_JUDGED, PASSED
from tasks.gate.screening import rule_on_screening
from tasks.spec.gate import GateSection


def point(sensitivity: Any, unit: str = "image") -> dict[str, Any]:
    fine = {"value": 0.95, "interval": [0.9, 0.99]}
    return {"threshold": 0.31, "unit": unit, "sensitivity": {**fine, **sensitivity}, "specificity": fine}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, PASSED),
        ({"interval": [0.85, 0.99]}, PASSED),
        ({"interval": [0.849, 0.99]}, FAILED),
        ({"interval": None}, NOT_JUDGED),
        ({"value": None, "interval": None}, NOT_JUDGED),
    ],
)
def test_the_lower_end_of_the_interval_decides(change: dict[str, Any], verdict: str) -> None:
    sensitivity, specificity = rule_on_screening(point(change), GateSection())
    assert (sensitivity.verdict, specificity.verdict) == (verdict, PASSED)


def test_the_figure_says_the_threshold_and_the_unit() -> None:
    assert rule_on_screening(point({}), GateSection())[0].figure == "0.950 [0.900, 0.990] at threshold 0.310"
    (found, _) = rule_on_screening(point({}, "exam"), GateSection())
    assert found.figure == "0.950 [0.900, 0.990] at threshold 0.310, by exam"


def test_without_a_threshold_nothing_is_judged() -> None:
    assert {ruling.verdict for ruling in rule_on_screening(None, GateSection())} == {NOT_JUDGED}


def test_a_floor_that_is_not_asked_for_is_no_rule() -> None:
    assert rule_on_screening(None, GateSection(sensitivity=None, specificity=None)) == []
