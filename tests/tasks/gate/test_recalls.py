"""Recall as the student decides, which need not be its likeliest class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.evaluate.arms import Truth
from tasks.gate import comparison
from tasks.gate.recalls import with_decided_recalls

PROB = np.array([[0.6, 0.4], [0.8, 0.2], [0.55, 0.45], [0.9, 0.1]])
FOUND = comparison.Tested(
    Truth(
        keys=np.array(["a", "b", "c", "d"], object),
        label=np.array([1, 1, 0, 0], np.int32),
        labels=None,
        patient=np.array(["a", "b", "c", "d"], object),
        leak=np.zeros(4, bool),
    ),
    PROB,
)


def facts(**more: Any) -> dict[str, Any]:
    rows = [{"class": name, "n": 2, "recall": recall} for name, recall in (("no", 1.0), ("yes", 0.0))]
    return {"task": "single", "best": {"arm": "taught", "seed": 0}, "per_class": rows, **more}


def recalls(given: dict[str, Any]) -> list[float | None]:
    return [row["recall"] for row in with_decided_recalls(given, FOUND)["per_class"]]


def test_without_a_decision_it_is_that_of_the_likeliest_class() -> None:
    assert recalls(facts()) == [1.0, 0.0]


def test_a_shift_of_the_logits_counts() -> None:
    readings = {"taught": [{"seed": 0, "logit_shift": [0.0, 0.6]}]}
    assert recalls(facts(decisions={"metric": "macro_f1", "readings": readings})) == [0.5, 0.5]


def test_cut_points_count() -> None:
    readings = {"taught": [{"seed": 0, "cut_points": [0.15], "temperature": 1.0}]}
    given = facts(task="ordinal", grades={"referable": 1, "readings": readings})
    assert recalls(given) == [0.5, 1.0]


def test_a_class_without_test_images_has_none() -> None:
    given = facts()
    given["per_class"].append({"class": "other", "n": 0, "recall": None})
    assert recalls(given)[2] is None


@pytest.mark.parametrize("task", ["multilabel"])
def test_several_labels_stay_as_they_are(task: str) -> None:
    assert recalls(facts(task=task)) == [1.0, 0.0]
