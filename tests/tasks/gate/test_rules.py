"""Rules of the gate on a report's figures."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.gate.rules import FAILED, NOT_JUDGED, PASSED, overall, rule_on_report
from tasks.spec.gate import GateSection
from tests.tasks.gate.reports import report_facts


def verdicts(facts: dict[str, Any], **section: Any) -> dict[str, str]:
    return {each.rule: each.verdict for each in rule_on_report(facts, GateSection(**section))}


def test_a_student_that_is_better_than_every_baseline_passes() -> None:
    found = rule_on_report(report_facts(), GateSection())
    assert [each.rule for each in found] == ["defined", "patients", "majority", "thumbnails", "borders"]
    assert overall(found) == PASSED


@pytest.mark.parametrize(
    ("change", "rule", "verdict"),
    [
        ({"patients": 29}, "patients", NOT_JUDGED),
        ({"against_baselines": {"thumbnails": {"value": 0.1, "interval": [-0.01, 0.2]}}}, "thumbnails", FAILED),
        ({"against_baselines": {"borders": {"value": 0.1, "interval": None}}}, "borders", NOT_JUDGED),
    ],
)
def test_what_does_not_pass_is_told_apart(change: dict[str, Any], rule: str, verdict: str) -> None:
    facts = report_facts()
    for name, value in change.items():
        facts[name] = {**facts[name], **value} if isinstance(value, dict) else value
    assert verdicts(facts) == {**verdicts(report_facts()), rule: verdict}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"value": None, "better": False, "reason": "macro_f1 is undefined"}, "macro_f1 is undefined"),
        (
            {"one_answer": "dark", "better": False, "reason": "it gives every test image the class dark"},
            "it gives every test image the class dark",
        ),
    ],
)
def test_an_undefined_or_constant_student_never_passes(change: dict[str, Any], text: str) -> None:
    facts = report_facts(against_majority={**report_facts()["against_majority"], **change})
    found = rule_on_report(facts, GateSection(baselines=False))
    assert overall(found) == FAILED
    assert text in found[0].text


def test_a_student_no_better_than_the_majority_fails_with_the_figures() -> None:
    change = {"better": False, "interval": [0.3, 0.95], "reason": "the interval reaches the majority's figure"}
    facts = report_facts(against_majority={**report_facts()["against_majority"], **change})
    (found,) = [each for each in rule_on_report(facts, GateSection()) if each.rule == "majority"]
    assert (found.verdict, found.figure) == (
        FAILED,
        "0.900 [0.300, 0.950], majority 0.350; the interval reaches the majority's figure",
    )


def test_better_without_an_interval_cannot_be_judged() -> None:
    facts = report_facts(against_majority={**report_facts()["against_majority"], "interval": None})
    assert verdicts(facts)["majority"] == NOT_JUDGED


def test_baselines_that_the_spec_does_not_ask_for_are_no_rule() -> None:
    facts = report_facts(arms={"taught": report_facts()["arms"]["taught"]})
    assert verdicts(facts) == {"defined": PASSED, "patients": PASSED}


@pytest.mark.parametrize(
    ("floors", "verdict"),
    [
        ({"dark": 0.9}, PASSED),
        ({"dark": 0.91}, FAILED),
        ({"bright": 0.1}, NOT_JUDGED),
        ({"grey": 0.1}, FAILED),
    ],
)
def test_a_floor_on_recall_needs_cases(floors: dict[str, float], verdict: str) -> None:
    found = verdicts(report_facts(), recall=floors)
    assert found[f"recall of {next(iter(floors))}"] == verdict


@pytest.mark.parametrize(("most", "verdict"), [(0.1, PASSED), (0.04, FAILED)])
def test_the_worst_group_may_be_so_much_worse(most: float, verdict: str) -> None:
    worst = {"site": {"group": "B", "value": 0.85}}
    facts = report_facts(groups={"whole": 0.9, "worst": worst})
    assert verdicts(facts, worst_group=most)["worst site"] == verdict


def test_a_group_whose_figure_is_undefined_leaves_the_worst_unknown() -> None:
    worst = {"site": {"group": "B", "value": 0.88}}
    rows = [{"group": "B", "images": 40, "value": 0.88}, {"group": "C", "images": 25, "value": None}]
    facts = report_facts(groups={"whole": 0.9, "worst": worst, "by": {"site": rows}})
    (found,) = [each for each in rule_on_report(facts, GateSection(worst_group=0.1)) if each.rule == "worst site"]
    assert (found.verdict, found.figure) == (
        NOT_JUDGED,
        "site B: 0.880, 0.900 on all; undefined where site is C",
    )
    rows[1]["images"] = 19
    assert verdicts(facts, worst_group=0.1)["worst site"] == PASSED


def test_without_groups_the_worst_is_not_judged() -> None:
    assert verdicts(report_facts(), worst_group=0.1)["worst group"] == NOT_JUDGED


def test_a_floor_for_every_class_counts_those_with_enough_images() -> None:
    assert verdicts(report_facts(), recall_floor=0.95)["recall of dark"] == FAILED
    found = verdicts(report_facts(), recall_floor=0.95, recall={"dark": 0.8})
    assert found["recall of dark"] == PASSED
    assert "recall of bright" not in found


@pytest.mark.parametrize(("most", "verdict"), [(0.05, PASSED), (0.03, FAILED)])
def test_calibration_is_of_the_seed_that_would_be_registered(most: float, verdict: str) -> None:
    assert verdicts(report_facts(), ece=most)["calibration"] == verdict


def test_one_rule_that_failed_outweighs_others_that_cannot_be_judged() -> None:
    facts = report_facts(patients=3)
    found = rule_on_report(facts, GateSection(ece=0.01))
    assert overall(found) == FAILED
    assert overall([each for each in found if each.verdict != FAILED]) == NOT_JUDGED
