"""Whether a teacher's numbers are logits: probabilities are recognised, refused or turned into logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infra.errors import UsageError
from models.statistics.metrics import probabilities
from tasks.data.weights import WeightsRef
from tasks.teachers.outputs import to_logits
from tasks.teachers.teacher import TeacherModel

LOGITS = np.array([[4.0, 0.0, -1.0], [0.5, 1.5, 0.0], [-2.0, 0.0, 3.0], [0.1, 0.2, 0.3]], np.float32)
KEYS = ["a", "b", "c", "d"]
SOFT = probabilities("single", LOGITS).astype(np.float32)
MANY = probabilities("multilabel", LOGITS).astype(np.float32)


def teacher(outputs: str = "", kind: Any = "onnx") -> TeacherModel:
    return TeacherModel("file", kind, "", {}, 32, 3, WeightsRef("", "", ""), outputs=outputs)


@pytest.mark.parametrize("kind", ["onnx", "python", "table"])
@pytest.mark.parametrize("many", [False, True])
def test_rows_that_are_probabilities_are_refused_with_what_to_set(kind: str, many: bool) -> None:
    with pytest.raises(UsageError, match=r"teacher file: .*of a 0\.9.*Set outputs: probabilities"):
        to_logits(teacher(kind=kind), MANY if many else SOFT, KEYS, many=many)


@pytest.mark.parametrize(("outputs", "many"), [("softmax", False), ("sigmoid", True)], ids=["exclusive", "multilabel"])
def test_probabilities_become_logits_where_the_spec_says_so(outputs: str, many: bool) -> None:
    said = MANY if many else SOFT
    task = "multilabel" if many else "single"
    logits = to_logits(teacher(outputs), said, KEYS, many=many)
    assert np.allclose(probabilities(task, logits), said, atol=1e-5)


def test_a_probability_of_nought_or_one_has_a_finite_logit() -> None:
    certain = np.array([[1.0, 0.0, 0.0]], np.float32)
    assert np.isfinite(to_logits(teacher("softmax"), certain, ["a"], many=False)).all()
    assert np.isfinite(to_logits(teacher("sigmoid"), certain, ["a"], many=True)).all()


def test_a_row_without_an_answer_stays_without() -> None:
    said = SOFT.copy()
    said[1] = np.nan
    assert np.isnan(to_logits(teacher("softmax"), said, KEYS, many=False)).all(axis=1).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("outputs", "said"), [("softmax", LOGITS), ("softmax", MANY), ("sigmoid", LOGITS)])
def test_logits_that_the_spec_calls_probabilities_are_refused(outputs: str, said: np.ndarray) -> None:
    with pytest.raises(UsageError, match="teacher file: outputs: probabilities, but of a it says"):
        to_logits(teacher(outputs), said, KEYS, many=outputs == "sigmoid")


@pytest.mark.parametrize(
    ("outputs", "kind", "said"),
    [("", "onnx", LOGITS), ("logits", "onnx", SOFT), ("", "network", SOFT), ("", "onnx", np.zeros((4, 3), np.float32))],
    ids=["logits", "said to be logits", "a linear head", "zeros"],
)
def test_logits_are_taken_as_they_are(outputs: str, kind: str, said: np.ndarray) -> None:
    assert np.array_equal(to_logits(teacher(outputs, kind), said, KEYS, many=False), said)


def test_only_probabilities_move_a_teachers_identity() -> None:
    plain, said, soft = (teacher(outputs).identity() for outputs in ("", "logits", "softmax"))
    assert plain == said
    assert soft["outputs"] == "softmax"
