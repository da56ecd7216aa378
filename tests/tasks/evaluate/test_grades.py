"""Metrics of graded corpora against formulas by hand, from given predictions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from infra.digest import canonical_json
from models.statistics.ordinal import CutPoints
from tasks.data.decisions import decision_of
from tasks.data.grade_decision import GradeDecision
from tasks.evaluate.arms import Arm, Truth
from tasks.evaluate.grades import add_grades
from tasks.evaluate.report import grades_text
from tasks.evaluate.results import summarise
from tests.tasks.evaluate.truths import truth_of

CLASSES = ["none", "mild", "moderate", "severe"]


def timid(label: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities of a model that knows the order of the grades and shrinks from the worse ones."""
    centre = 0.4 * label + np.random.default_rng(seed).normal(0.3, 0.2, len(label))
    prob = np.exp(-2 * (np.arange(4) - centre[:, None]) ** 2)
    return np.asarray(prob / prob.sum(axis=1, keepdims=True))


def problem(n_val: int = 120, n_test: int = 90) -> tuple[list[Arm], Truth, Truth]:
    """A student in two seeds and a teacher, validation and test."""
    val, test = (truth_of((np.arange(n) * 7 % 4).tolist()) for n in (n_val, n_test))

    def arm(name: str, *seeds: int) -> Arm:
        of_val, of_test = (tuple(timid(t.label, 10 * s + i) for s in seeds) for i, t in enumerate((val, test)))
        return Arm(name, seeds, of_val, of_test, keys=tuple(f"{name}-{s}" for s in seeds))

    return [arm("taught", 1, 2), arm("teacher:big", 3)], val, test


def graded(
    arms: list[Arm], val: Truth, test: Truth, *, referable: int | None = 2, resamples: int = 0
) -> dict[str, Any]:
    facts = summarise("ordinal", CLASSES, arms, val, test, metric="qwk", resamples=resamples, bins=5)
    return add_grades(facts, arms, val, test, referable=referable, resamples=resamples, bins=5)


def test_mae_is_the_mean_of_the_grades_off() -> None:
    arms, val, test = problem()
    row = graded(arms, val, test)["arms"]["taught"]
    expected = [np.abs(prob.argmax(axis=1) - test.label).mean() for prob in arms[0].test]
    assert [each["mae"] for each in row["per_seed"]] == pytest.approx(expected, abs=1e-6)
    assert row["values"]["mae"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_cut_points_are_fitted_on_validation_and_judged_on_test() -> None:
    arms, val, test = problem()
    found = graded(arms, val, test)
    cuts = found["grades"]["readings"]["taught"][0]["cut_points"]
    said = np.searchsorted(cuts, arms[0].test[0] @ np.arange(4), side="right")
    kappa = sk.cohen_kappa_score(test.label, said, weights="quadratic", labels=range(4))
    row = found["arms"]["taught"]["per_seed"][0]
    assert row["qwk_cut_points"] == pytest.approx(kappa, abs=1e-6)
    assert row["qwk_cut_points"] > row["qwk"] + 0.1
    other = dataclasses.replace(test, label=test.label[::-1].copy())
    assert graded(arms, val, other)["grades"] == found["grades"]


def test_referable_is_the_calibrated_probability_of_the_worse_grades() -> None:
    arms, val, test = problem()
    found = graded(arms, val, test)
    temperature = found["grades"]["readings"]["taught"][0]["temperature"]
    assert temperature != 1
    prob = arms[0].test[0] ** (1 / temperature)
    score = prob[:, 2:].sum(axis=1) / prob.sum(axis=1)
    positive = test.label >= 2
    row = found["arms"]["taught"]["per_seed"][0]
    assert row["referable_auc"] == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-6)
    bins = np.minimum((score * 5).astype(int), 4)
    gaps = [abs((score - positive)[bins == b].sum()) for b in range(5)]
    assert row["referable_ece"] == pytest.approx(sum(gaps) / len(test), abs=1e-6)


def test_intervals_hold_their_values() -> None:
    arms, val, test = problem()
    row = graded(arms, val, test, resamples=100)["arms"]["taught"]
    for metric in ("qwk_cut_points", "mae", "referable_auc"):
        low, high = row["interval"][metric]
        assert low < row["values"][metric] < high


def test_resamples_are_those_of_the_other_metrics() -> None:
    arms, val, test = problem()
    # Sure of one grade each: cut points between the grades, so both kappas are of the same decisions.
    sure = [
        dataclasses.replace(
            a, val=tuple(np.eye(4)[val.label] for _ in a.val), test=tuple(np.eye(4)[p.argmax(axis=1)] for p in a.test)
        )
        for a in arms
    ]
    row = graded(sure, val, test, resamples=60)["arms"]["taught"]
    assert row["interval"]["qwk_cut_points"] == row["interval"]["qwk"]


def test_every_metric_is_told_without_leaks_in_its_own_terms() -> None:
    arms, val, test = problem()
    leak = np.arange(len(test)) % 3 == 0
    leaking = graded(arms, val, dataclasses.replace(test, leak=leak))["arms"]["taught"]
    kept = [dataclasses.replace(a, test=tuple(prob[~leak] for prob in a.test)) for a in arms]
    alone = graded(kept, val, test.where(~leak))["arms"]["taught"]
    for metric in ("qwk", "qwk_cut_points", "mae", "referable_auc"):
        assert leaking["without_leaks"][metric] == pytest.approx(alone["values"][metric], abs=1e-5)


def test_without_validation_images_nothing_is_fitted_and_that_is_said() -> None:
    arms, val, test = problem(n_val=0)
    found = graded(arms, val, test)
    row = found["arms"]["taught"]
    assert row["values"]["qwk_cut_points"] is None
    assert row["undefined"]["qwk_cut_points"] == "no validation image is labelled"
    assert decision_of(found, "taught", 2) == {"cut_points": None, "temperature": 1.0, "referable": 2}
    text = grades_text(found)
    assert "There are no cut points" in text
    assert "its probability is not calibrated" in text


def test_a_grade_without_validation_images_is_said() -> None:
    arms, val, test = problem()
    keep = val.label != 3
    arms = [dataclasses.replace(a, val=tuple(prob[keep] for prob in a.val)) for a in arms]
    found = graded(arms, val.where(keep), test)
    own = found["grades"]["readings"]["taught"][0]
    assert own["missing"] == [3]
    assert own["cut_points"][0] < 0.5
    assert "none of which shows severe, so that this grade is hardly ever decided." in grades_text(found)


def test_without_a_referable_grade_there_are_no_such_metrics() -> None:
    arms, val, test = problem()
    found = graded(arms, val, test, referable=None)
    assert found["metrics"][-2:] == ["qwk_cut_points", "mae"]
    assert "referable_auc" not in found["arms"]["taught"]["values"]
    assert "No grade is named as the first that is referred" in grades_text(found)


def test_test_images_on_one_side_leave_the_area_undefined() -> None:
    arms, val, test = problem()
    keep = test.label < 2
    arms = [dataclasses.replace(a, test=tuple(prob[keep] for prob in a.test)) for a in arms]
    found = graded(arms, val, test.where(keep))
    assert found["arms"]["taught"]["values"]["referable_auc"] is None
    assert "referable AUC of teacher big is undefined: the test images all lie on one side" in grades_text(found)
    assert canonical_json(found)  # raises on NaN


def test_the_report_names_cut_points_temperature_and_the_referable_grade() -> None:
    arms, val, test = problem()
    found = graded(arms, val, test, resamples=20)
    own = found["grades"]["readings"]["taught"][1]
    text = grades_text(found)
    assert "Referable is grade 2 (moderate) or worse" in text
    cuts = ", ".join(f"{cut:.3f}" for cut in own["cut_points"])
    assert f"| student, taught | 2 | {cuts} | {own['temperature']:.4g} |" in text
    value, (low, high) = (found["arms"]["taught"][kind]["mae"] for kind in ("values", "interval"))
    assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in text


def test_a_model_s_reading_is_that_of_its_seed() -> None:
    arms, val, test = problem()
    found = graded(arms, val, test)
    assert decision_of(found, "taught", 2)["cut_points"] == found["grades"]["readings"]["taught"][1]["cut_points"]
    assert decision_of({"arms": {}}, "taught", 2) == {}


def test_a_reading_calibrates_an_overconfident_model() -> None:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(4), 4000)
    label = (rng.random((4000, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=3)
    bold = true**3 / (true**3).sum(axis=1, keepdims=True)
    reading = GradeDecision.fit(bold, label)
    assert reading.temperature == pytest.approx(3, rel=0.05)
    assert np.abs(reading.calibrated(bold) - true).max() < 0.05


def test_a_probability_of_zero_can_be_read() -> None:
    prob = np.eye(4)[[0, 1, 2, 3, 0]]
    reading = GradeDecision.fit(prob, np.array([0, 1, 2, 3, 1]))
    assert isinstance(reading.cuts, CutPoints)
    assert np.isfinite(reading.calibrated(prob)).all()
