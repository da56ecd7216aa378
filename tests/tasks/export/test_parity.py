"""Formats against PyTorch: differences, agreement, what it costs in the report's metric, bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.statistics.metrics import assess, probabilities
from tasks.export.images import ComparedImages, spread
from tasks.export.parity import INT8_AGREEMENT, Parity, compare

COUNT, CLASSES = 60, 3


def truth(*, many: bool = False) -> ComparedImages:
    """Images of 30 patients, two each, of classes in turn."""
    number = np.arange(COUNT)
    return ComparedImages(
        keys=number.astype(str),
        images=np.zeros((COUNT, 1, 1, 3), np.uint8),
        label=np.full(COUNT, -1) if many else number % CLASSES,
        labels=np.eye(CLASSES, dtype=int)[number % CLASSES] if many else None,
        patient=(number // 2).astype(str),
    )


def facts(task: str = "single", metric: str = "macro_f1", **more: Any) -> dict[str, Any]:
    return {"task": task, "metric": metric, "resamples": 100, "best": {"arm": "taught", "seed": 0}, **more}


def logits(wrong: int = 0, seed: int = 0) -> np.ndarray:
    """Confident logits; the first `wrong` images are taken for the next class."""
    number = np.arange(COUNT)
    said = np.where(number < wrong, number + 1, number) % CLASSES
    noise = np.random.default_rng(seed).normal(0, 0.3, (COUNT, CLASSES))
    return (4 * np.eye(CLASSES)[said] + noise).astype(np.float32)


def test_equal_logits_differ_in_nothing() -> None:
    found = compare(logits(), logits(), truth(), facts(), runtime="torch")
    assert (found.images, found.largest, found.agreement, found.metric_difference) == (COUNT, 0, 1, 0)
    assert (found.interval, found.beyond) == ((0, 0), "")


def test_the_largest_difference_is_of_probabilities() -> None:
    other = logits()
    other[7] += [0.5, 0, 0]
    found = compare(logits(), other, truth(), facts(), runtime="onnxruntime")
    expected = np.abs(probabilities("single", other) - probabilities("single", logits())).max()
    assert found.largest == pytest.approx(expected)
    assert found.beyond.startswith(f"a probability differs by {expected:.4f} from PyTorch")


def test_what_is_lost_is_negative_with_its_interval_over_patients() -> None:
    found = compare(logits(), logits(wrong=6), truth(), facts(), runtime="onnxruntime", quantised=True)
    values = [
        assess("single", probabilities("single", each), truth().label, None).values["macro_f1"] or 0.0
        for each in (logits(wrong=6), logits())
    ]
    assert found.metric_difference == pytest.approx(values[0] - values[1])
    assert found.interval is not None
    assert found.interval[0] < found.metric_difference < found.interval[1] <= 0
    assert found.agreement == pytest.approx(1 - 6 / COUNT)


def test_a_metric_whose_low_values_are_better_keeps_the_sign() -> None:
    found = compare(logits(), logits(wrong=6), truth(), facts(metric="nll"), runtime="onnxruntime")
    assert found.metric_difference is not None
    assert found.metric_difference < 0


def test_grades_are_judged_at_the_fitted_cut_points() -> None:
    grades = {"referable": 1, "readings": {"taught": [{"seed": 0, "cut_points": [0.5, 1.5], "temperature": 1.0}]}}
    for metric in ("qwk_cut_points", "referable_auc"):
        found = compare(logits(), logits(wrong=9), truth(), facts("ordinal", metric, grades=grades), runtime="torch")
        assert found.metric == metric
        assert found.metric_difference is not None
        assert found.metric_difference < 0


def test_grades_without_cut_points_are_judged_by_their_order() -> None:
    grades = {"referable": None, "readings": {"taught": [{"seed": 0, "cut_points": None, "temperature": 1.0}]}}
    found = compare(logits(), logits(), truth(), facts("ordinal", "qwk_cut_points", grades=grades), runtime="torch")
    assert found.metric == "grade_auc"


def test_many_labels_agree_by_decision() -> None:
    other = logits()
    other[0] = -other[0]
    found = compare(logits(), other, truth(many=True), facts("multilabel", "auc"), runtime="torch")
    assert found.agreement == pytest.approx(1 - 3 / (COUNT * CLASSES))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"largest": 0.21}, "a probability differs by 0.210"),
        ({"agreement": INT8_AGREEMENT - 0.01}, "96.0% of the classes are the same"),
        ({"interval": None}, "there is no interval of what it costs in macro_f1"),
        ({"interval": (-0.03, 0.0)}, "macro_f1 may lose 0.030"),
        ({}, ""),
    ],
)
def test_int8_has_bounds_of_its_own(change: dict[str, Any], text: str) -> None:
    values: dict[str, Any] = {"largest": 0.1, "agreement": 0.99, "interval": (-0.01, 0.01)} | change
    found = Parity(True, "openvino", 256, metric="macro_f1", metric_difference=0.0, **values)
    assert found.beyond.startswith(text)
    assert bool(found.beyond) == bool(text)


def test_images_are_taken_from_the_whole_range() -> None:
    assert spread(3, 256) == [0, 1, 2]
    assert spread(10, 4) == [0, 2, 5, 7]
