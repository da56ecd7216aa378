"""Sensitivity and specificity at a threshold that validation chose."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.gate.rules import FAILED, NOT_JUDGED, PASSED
from tasks.gate.screening import Referral, operating_point, referral_of, rule_on_screening
from tasks.spec.gate import GateSection
from tests.tasks.gate.reports import report_facts


def referral(seed: int, spread: float, images: int = 400) -> Referral:
    """Half of the images are referable; the probabilities of both sides lie `spread` around 0.7 and 0.3."""
    rng = np.random.default_rng(seed)
    truth = np.arange(images) % 2 == 1
    probability = np.clip(np.where(truth, 0.7, 0.3) + rng.normal(0, spread, images), 0, 1)
    return Referral(probability, truth, np.array([f"p{number // 2}" for number in range(images)]))


def test_the_threshold_comes_from_validation_alone() -> None:
    val = Referral(np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True]), np.array(list("abcd")))
    test = Referral(np.array([0.3, 0.55, 0.65, 0.7]), np.array([False, True, True, True]), np.array(list("efgh")))
    found = operating_point(val, test, resamples=0)
    assert found is not None
    assert found.threshold == 0.6
    assert (found.sensitivity, found.specificity) == ((pytest.approx(2 / 3), None), (1.0, None))


def test_lower_ends_of_the_intervals_decide() -> None:
    good = operating_point(referral(0, 0.05), referral(1, 0.05), resamples=200)
    bad = operating_point(referral(0, 0.3), referral(1, 0.3), resamples=200)
    section = GateSection()
    assert {ruling.verdict for ruling in rule_on_screening(good, section)} == {PASSED}
    assert {ruling.verdict for ruling in rule_on_screening(bad, section)} == {FAILED}


def test_few_patients_make_a_wide_interval() -> None:
    found = [operating_point(referral(0, 0.15), referral(1, 0.15, n), resamples=400) for n in (20, 400)]
    spans = [point.sensitivity[1] for point in found if point is not None]
    assert None not in spans
    assert spans[0][1] - spans[0][0] > spans[1][1] - spans[1][0]


def test_a_test_set_of_one_side_cannot_be_judged() -> None:
    test = referral(1, 0.05)
    one = Referral(test.probability[::2], test.truth[::2], test.patient[::2])
    assert operating_point(referral(0, 0.05), one, resamples=100) is None
    assert {ruling.verdict for ruling in rule_on_screening(None, GateSection())} == {NOT_JUDGED}


def test_a_floor_that_is_not_asked_for_is_no_rule() -> None:
    assert rule_on_screening(None, GateSection(sensitivity=None, specificity=None)) == []


def test_grades_are_referred_from_the_first_referable_one_on() -> None:
    reading = {"seed": 1, "temperature": 1.0}
    facts = report_facts(task="ordinal", grades={"referable": 2, "readings": {"taught": [reading]}})
    rows = [
        {"key": "a", "label": 2, "prob": [0.1, 0.2, 0.3, 0.4]},
        {"key": "b", "label": 1, "prob": [0.7, 0.1, 0.1, 0.1]},
    ]
    found = referral_of(facts, rows, {"a": "p", "b": ""})
    assert found is not None
    assert found.probability == pytest.approx([0.7, 0.2])
    assert (found.truth.tolist(), found.patient.tolist()) == ([True, False], ["p", "b"])


def test_an_image_that_cannot_be_graded_is_referred_whatever_the_student_says() -> None:
    rows = [{"key": key, "label": 0, "prob": [0.9, 0.1]} for key in "ab"]
    found = referral_of(report_facts(classes=["not referable", "referable"]), rows, {}, {"b"})
    assert found is not None
    assert found.probability.tolist() == [0.1, 1.0]


def test_two_classes_are_referred_by_name() -> None:
    rows = [{"key": "a", "label": 1, "prob": [0.2, 0.8]}]
    facts = report_facts(classes=["not referable", "referable"])
    found = referral_of(facts, rows, {})
    assert found is not None
    assert (found.probability.tolist(), found.truth.tolist()) == ([0.8], [True])
    assert referral_of(report_facts(), rows, {}) is None
