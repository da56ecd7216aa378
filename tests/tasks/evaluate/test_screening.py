"""Referral at one threshold that validation chose, by image and by decision unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.data.catalog import CATALOG, OK, with_attributes
from tasks.data.decisions import decision_of, operating_point
from tasks.evaluate.arms import Arm, Truth
from tasks.evaluate.screening import Referred, referred_of, screening, threshold_of
from tasks.evaluate.screening_text import screening_text
from tests.tasks.evaluate.truths import truth_of

TWO = Referred("single", 1, None, "class referable")
NOTHING = np.zeros((0, 2))


def named(prefix: str, label: list[int]) -> Truth:
    """Images of one split; two neighbours are of one patient."""
    found = truth_of(label)
    keys = np.array([f"{prefix}{i}" for i in range(len(label))], dtype=object)
    return replace(found, keys=keys, patient=np.array([f"{prefix}p{i // 2}" for i in range(len(label))], dtype=object))


def catalog(*splits: Truth, **columns: list[Any]) -> pa.Table:
    keys = [key for split in splits for key in split.keys]
    rows = {"key": keys, "patient": [name for split in splits for name in split.patient]}
    rows |= {"gradable": [True] * len(keys), "status": [OK] * len(keys), **columns}
    return with_attributes(pa.table(rows, schema=pa.schema([CATALOG.field(name) for name in rows])))


def two(probability: Any) -> np.ndarray:
    """Probabilities [N, 2] of the class that is referred and of the other."""
    high = np.asarray(probability, float)
    return np.stack([1 - high, high], axis=1)


def judged(
    on_val: list[float], on_test: list[float], label: list[int], *, unit: str = "image", **rest: Any
) -> dict[str, Any]:
    """Two classes; the first half of the validation images is not to be referred."""
    val, test = named("v", [0] * (len(on_val) // 2) + [1] * (len(on_val) // 2)), named("t", label)
    arm = Arm("taught", seeds=(0,), val=(two(on_val),), test=(two(on_test),))
    given: dict[str, Any] = {"aggregate": "maximum", "resamples": 0, **rest}
    table = given.pop("table", None) or catalog(val, test)
    return screening(table, [arm], val, test, referred=TWO, unit=unit, **given)


def test_the_threshold_comes_from_validation_alone() -> None:
    found = judged([0.1, 0.2, 0.6, 0.9], [0.3, 0.55, 0.65, 0.7], [0, 1, 1, 1])
    (point,) = found["arms"]["taught"]["seeds"]
    # Calibration is the same for all, so that the threshold lies between validation's two sides on its scale.
    assert found["arms"]["taught"]["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["arms"]["taught"]["specificity"]["value"] == 1.0
    assert point["sensitivity"] == found["arms"]["taught"]["sensitivity"]


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.4
    score = np.round(rng.normal(truth * 0.3 + 0.4, 0.2).clip(0, 1), 2)
    sums = {cut: (score[truth] >= cut).mean() + (score[~truth] < cut).mean() for cut in sorted(set(score))}
    best = min(cut for cut, value in sums.items() if value >= max(sums.values()) - 1e-12)
    assert threshold_of(score, truth) == pytest.approx(best, abs=2e-6)


def test_a_side_that_validation_lacks_leaves_no_threshold() -> None:
    val, test = named("v", [0, 0]), named("t", [0, 1])
    arm = Arm("taught", seeds=(0,), val=(two([0.1, 0.2]),), test=(two([0.1, 0.9]),))
    found = screening(
        catalog(val, test), [arm], val, test, referred=TWO, unit="image", aggregate="maximum", resamples=50
    )
    assert found["arms"]["taught"]["sensitivity"] == {"value": None, "interval": None}
    assert operating_point({"screening": found}, "taught", 0) is None
    assert "No threshold could be chosen" in screening_text({"screening": found})


def test_a_patient_is_referred_with_any_image_and_is_as_ill_as_the_worst() -> None:
    found = judged([0.1, 0.2, 0.6, 0.9], [0.9, 0.1, 0.2, 0.1], [0, 1, 0, 0], unit="patient")
    assert found["counts"]["patient"] == {"val": 2, "test": 2, "referable": 1, "severe": 0, "alone": 0}
    row = found["arms"]["taught"]
    assert (row["sensitivity"]["value"], row["specificity"]["value"]) == (1.0, 1.0)
    assert (row["image"]["sensitivity"]["value"], row["image"]["specificity"]["value"]) == (0.0, pytest.approx(2 / 3))


def test_the_mean_of_a_patient_may_stay_below() -> None:
    given: Any = ([0.1, 0.2, 0.9, 0.9], [0.95, 0.1, 0.1, 0.1], [0, 1, 0, 0])
    largest, mean = (
        judged(*given, unit="patient", aggregate=rule)["arms"]["taught"]["sensitivity"]["value"]
        for rule in ("maximum", "mean")
    )
    assert (largest, mean) == (1.0, 0.0)


def test_an_image_whose_unit_is_not_known_stands_for_itself() -> None:
    val, test = named("v", [0, 0, 1, 1]), named("t", [0, 1, 0])
    exams = ["a", "a", "b", "b", "c", "c", ""]
    found = judged([0.1, 0.2, 0.6, 0.9], [0.1, 0.9, 0.1], [0, 1, 0], unit="exam", table=catalog(val, test, exam=exams))
    assert (found["counts"]["exam"]["test"], found["counts"]["exam"]["alone"]) == (2, 1)
    assert "Of 1 test images the exam is not known" in screening_text({"screening": found})


def test_an_image_that_cannot_be_graded_refers_its_patient_whatever_is_said_of_it() -> None:
    val, test = named("v", [0, 0, 1, 1]), named("t", [1, 0, 0, 0])
    table = catalog(val, test, gradable=[True] * 4 + [True, False, True, True])
    found = judged([0.1, 0.2, 0.6, 0.9], [0.1] * 4, [1, 0, 0, 0], unit="patient", aggregate="mean", table=table)
    assert found["referred"] == 1
    row = found["arms"]["taught"]
    assert (row["sensitivity"]["value"], row["image"]["sensitivity"]["value"]) == (1.0, 0.0)


def test_an_image_that_cannot_be_graded_moves_no_threshold() -> None:
    val, test = named("v", [0, 0, 1, 1]), named("t", [0, 1])
    table = catalog(val, test, gradable=[True, False, True, True, True, True])
    found = judged([0.1, 0.99, 0.6, 0.9], [0.1, 0.7], [0, 1], table=table)
    assert found["arms"]["taught"]["sensitivity"]["value"] == 1.0


def test_few_patients_make_a_wide_interval_though_all_are_right() -> None:
    few, many = (
        judged([0.1, 0.2, 0.6, 0.9], [0.05, 0.95] * n, [0, 1] * n, resamples=200)["arms"]["taught"]["sensitivity"]
        for n in (5, 100)
    )
    assert few["value"] == many["value"] == 1.0
    assert few["interval"][0] < 0.6 < 0.95 < many["interval"][0]


def test_severe_grades_that_are_missed_are_told() -> None:
    referred = referred_of("ordinal", [str(grade) for grade in range(5)], 2)
    assert referred is not None
    label = [0, 2, 3, 4, 4]
    said = np.eye(5)[[0, 2, 0, 4, 4]] * 0.9 + 0.02
    val, test = truth_of([0, 1, 2, 3]), replace(truth_of(label), keys=np.array(list("abcde"), dtype=object))
    arm = Arm("taught", seeds=(3,), val=(np.eye(5)[[0, 1, 2, 3]] * 0.9 + 0.02,), test=(said,))
    found = screening(
        catalog(val, test), [arm], val, test, referred=referred, unit="image", aggregate="maximum", resamples=0
    )
    assert found["arms"]["taught"]["missed_severe"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert "missed of grade 3 or worse (of 3)" in screening_text({"screening": found})


@pytest.mark.parametrize(
    ("task", "classes", "first", "severe"),
    [("ordinal", "abcde", 2, 3), ("ordinal", "abc", 1, None), ("ordinal", "abcde", 4, None)],
)
def test_severe_is_grade_three_of_scales_that_have_one(task: str, classes: str, first: int, severe: int | None) -> None:
    found = referred_of(task, list(classes), first)
    assert found is not None
    assert found.severe == severe


@pytest.mark.parametrize(
    ("task", "classes"), [("ordinal", "ab"), ("single", "ab"), ("multilabel", ["referable", "other"])]
)
def test_nothing_is_referred_unless_the_corpus_says_what(task: str, classes: Any) -> None:
    assert referred_of(task, list(classes), None) is None


def test_a_model_ships_with_its_own_operating_point() -> None:
    facts = {"screening": judged([0.1, 0.2, 0.6, 0.9], [0.1, 0.9, 0.8, 0.1], [0, 1, 1, 0], unit="patient")}
    found = decision_of(facts, "taught", 0)["operating_point"]
    assert found.keys() == {
        *("threshold", "temperature", "of", "unit", "aggregate"),
        *("sensitivity", "specificity", "missed_severe", "image"),
    }
    assert (found["unit"], found["of"]) == ("patient", "class referable")
