"""Numbers from given predictions: leaks, absent classes, the best seed, None instead of NaN."""

from __future__ import annotations

import numpy as np

from infra.digest import canonical_json
from tasks.evaluate.arms import Arm, Truth
from tasks.evaluate.report import ReportContext, markdown
from tasks.evaluate.results import summarise
from tests.tasks.evaluate.truths import truth_of

CLASSES = ["no", "mild", "severe"]


def _saying(said: list[int]) -> np.ndarray:
    return 0.1 + 0.7 * np.eye(3)[said]


def _arm(name: str, val: list[list[int]], test: list[list[int]]) -> Arm:
    return Arm(
        name,
        seeds=tuple(range(len(val))),
        val=tuple(map(_saying, val)),
        test=tuple(map(_saying, test)),
        keys=tuple(f"{name}-{i}" for i in range(len(val))),
    )


def _summary(arms: list[Arm], test: Truth, metric: str = "accuracy", resamples: int = 40):  # type: ignore[no-untyped-def]
    val = truth_of([0, 1, 2, 0])
    return summarise("single", CLASSES, arms, val, test, metric=metric, resamples=resamples, bins=5)


def test_the_seed_that_is_best_on_validation_is_named() -> None:
    arm = _arm("taught", [[0, 0, 0, 0], [0, 1, 2, 0], [0, 1, 2, 0]], [[0, 1, 2]] * 3)
    best = _summary([arm], truth_of([0, 1, 2]))["best"]
    assert best == {"arm": "taught", "seed": 1, "key": "taught-1", "val": 1.0}


def test_a_smaller_error_is_better() -> None:
    arm = _arm("taught", [[0, 1, 2, 0], [0, 0, 0, 0]], [[0, 1, 2]] * 2)
    assert _summary([arm], truth_of([0, 1, 2]), metric="nll")["best"]["seed"] == 0


def test_values_are_means_over_seeds() -> None:
    arm = _arm("taught", [[0, 1, 2, 0]] * 2, [[0, 1, 2, 2], [0, 0, 0, 2]])
    row = _summary([arm], truth_of([0, 1, 2, 2]))["arms"]["taught"]
    assert row["values"]["accuracy"] == 0.75
    assert [each["accuracy"] for each in row["per_seed"]] == [1.0, 0.5]


def test_the_metric_without_leaks_leaves_leaked_images_out() -> None:
    arm = _arm("taught", [[0, 1, 2, 0]], [[0, 1, 2, 0]])
    found = _summary([arm], truth_of([0, 1, 2, 1], leak=[1, 1, 0, 0]))
    assert found["leaks"] == 2
    assert found["arms"]["taught"]["values"]["accuracy"] == 0.75
    assert found["arms"]["taught"]["without_leaks"]["accuracy"] == 0.5
    assert set(found["arms"]["taught"]["without_leaks"]) == set(found["metrics"])


def test_the_report_has_every_metric_without_leaks() -> None:
    arm = _arm("taught", [[0, 1, 2, 0]], [[0, 1, 2, 0]])
    facts = _summary([arm], truth_of([0, 1, 2, 1], leak=[1, 1, 0, 0]))
    context = ReportContext(
        corpus="tiny",
        phantom=False,
        counts={},
        kept_out=0,
        without_image=0,
        unpredicted=0,
        plots={"confusion": "c.png", "reliability": "r.png"},
        students="micro",
        shown="taught student",
    )
    told = {**facts, "headline": ["Good."], "without_patient": {"images": 4, "unknown": 0}}
    _, part = markdown(told, context).split("## Without leaks")
    assert part.startswith("\n\nOn the 2 test images of which none is in training")
    assert "| accuracy |" in part.split("##")[0]
    assert "| 0.500 |" in part.split("##")[0]


def test_difference_is_taught_minus_labels_alone() -> None:
    right, wrong = [[0, 1, 2, 0]] * 2, [[1, 2, 0, 1]] * 2
    arms = [_arm("taught", right, right), _arm("labels_only", wrong, wrong)]
    found = _summary(arms, truth_of([0, 1, 2, 0]))["difference"]
    assert found["value"] == 1.0
    assert found["interval"] == [1.0, 1.0]
    assert found["per_seed"] == [1.0, 1.0]


def test_absent_classes_are_reported_and_nothing_is_nan() -> None:
    arm = _arm("taught", [[0, 0, 0, 0]], [[0, 0]])
    found = _summary([arm], truth_of([0, 0]), metric="auc")
    assert found["absent"] == ["mild", "severe"]
    assert found["arms"]["taught"]["values"]["auc"] is None
    assert "positives and negatives" in found["arms"]["taught"]["undefined"]["auc"]
    assert found["arms"]["taught"]["interval"]["auc"] is None
    assert canonical_json(found)  # raises on NaN
