"""Decisions of shifted logits beside those of the argmax, and how they reach a registered model."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.data.decisions import decision_of
from tasks.evaluate.arms import Arm, Truth
from tasks.evaluate.results import summarise
from tasks.evaluate.shifts import add_shifts
from tests.models.statistics.test_logit_shift import CLASSES, LOG_PRIOR, mixture
from tests.tasks.evaluate.truths import truth_of

NAMES = [f"class-{c}" for c in range(CLASSES)]
COUNTS = np.round(10_000 * np.exp(LOG_PRIOR)).astype(int)


def problem(strength: float, n_val: int = 1500) -> tuple[Arm, Truth, Truth]:
    """A student with exact posteriors whose rare classes are said too often by `strength` times the log prior."""
    probs, truths = [], []
    for n, seed in ((n_val, 1), (3000, 2)):
        prob, label = mixture(n, seed)
        raised = prob * np.exp(-strength * LOG_PRIOR)
        probs.append(raised / raised.sum(axis=1, keepdims=True))
        truths.append(truth_of(label.tolist()))
    return Arm("taught", (3,), (probs[0],), (probs[1],), keys=("k",)), *truths


def found_of(arm: Arm, val: Truth, test: Truth, metric: str = "macro_f1", resamples: int = 0) -> dict[str, Any]:
    facts = summarise("single", NAMES, [arm], val, test, metric="macro_f1", resamples=resamples, bins=5)
    return add_shifts(facts, [arm], val, test, metric=metric, counts=COUNTS, resamples=resamples, bins=5)


def test_a_student_of_an_adjusted_loss_is_judged_beside_its_shift() -> None:
    found = found_of(*problem(1.0))
    row = found["arms"]["taught"]["values"]
    assert row["macro_f1_shifted"] > row["macro_f1"] + 0.03
    assert found["decisions"]["readings"]["taught"][0]["strength"] < 0


def test_the_shift_is_what_a_registered_model_gets() -> None:
    arm, val, test = problem(1.0)
    found = found_of(arm, val, test)
    decision = decision_of(found, "taught", 3)
    assert decision["decide_for"] == "macro_f1"
    said = (np.log(arm.test[0]) + decision["logit_shift"]).argmax(axis=1)
    right = np.mean([f1 for c in range(CLASSES) if (f1 := _f1(said == c, test.label == c)) is not None])
    assert abs(right - found["arms"]["taught"]["values"]["macro_f1_shifted"]) < 1e-5


def _f1(said: np.ndarray, true: np.ndarray) -> float | None:
    return float(2 * (said & true).sum() / (said.sum() + true.sum())) if said.any() or true.any() else None


def test_both_decisions_have_intervals() -> None:
    row = found_of(*problem(0.5, n_val=300), metric="balanced_accuracy", resamples=60)["arms"]["taught"]
    for name in ("balanced_accuracy", "balanced_accuracy_shifted"):
        low, high = row["interval"][name]
        assert low < row["values"][name] < high


def test_without_validation_images_nothing_is_shifted() -> None:
    found = found_of(*problem(1.0, n_val=0))
    assert found["decisions"]["readings"]["taught"][0]["strength"] == 0
    row = found["arms"]["taught"]["values"]
    assert row["macro_f1_shifted"] == row["macro_f1"]
