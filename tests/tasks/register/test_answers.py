"""What a registered student answers is what its evaluation decided."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.statistics.ordinal import CutPoints, at_least, decide, expected_grade
from tasks.data.grade_decision import GradeDecision
from tasks.register.answers import answer_of
from tests.tasks.ingest.pictures import noisy, packed
from tests.tasks.register.served import student_of

SINGLE = {"task": "single", "classes": ["a", "b", "c"]}


def graded(**rest: Any) -> dict[str, Any]:
    classes = ["none", "mild", "moderate", "severe"]
    return {"task": "ordinal", "classes": classes, "cut_points": [0.4, 1.2, 2.6], "temperature": 1.7, **rest}


def test_a_grade_and_a_referral_are_those_of_the_evaluation() -> None:
    prob = np.random.default_rng(0).dirichlet([0.6] * 4, 50).astype(np.float32)
    about = graded(referable=2, operating_point={"threshold": 0.37})
    found = [answer_of(about, row) for row in prob]
    cuts = CutPoints((0.4, 1.2, 2.6), ())
    expected = at_least(GradeDecision(cuts, 1.7).calibrated(prob), 2)
    assert [each["grade"] for each in found] == decide(expected_grade(prob), cuts).tolist()
    assert [each["p_referable"] for each in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [each["refer"] for each in found] == (expected >= 0.37).tolist()
    assert {each["refer"] for each in found} == {True, False}


def test_a_grade_is_the_class() -> None:
    found = answer_of(graded(referable=None), np.array([0.5, 0.1, 0.4, 0.0]))
    assert (found["grade"], found["class"], found["probability"]) == (1, "mild", 0.1)
    assert not {"p_referable", "refer"} & found.keys()


def test_a_grade_without_cut_points_is_the_likeliest() -> None:
    found = answer_of(graded(cut_points=None, referable=2), np.array([0.5, 0.1, 0.4, 0.0]))
    assert "grade" not in found
    assert (found["class"], found["probability"]) == ("none", 0.5)
    assert "refer" not in found


def test_a_class_is_decided_with_the_shift_of_the_evaluation() -> None:
    prob = np.array([0.5, 0.3, 0.2])
    assert answer_of(SINGLE, prob)["class"] == "a"
    assert answer_of({**SINGLE, "logit_shift": [0.0, 1.0, 0.0]}, prob)["class"] == "b"


def test_of_two_classes_referable_is_referred() -> None:
    about = {"task": "single", "classes": ["referable", "not"], "operating_point": {"threshold": 0.2}}
    found = answer_of(about, np.array([0.3, 0.7]))
    assert (found["class"], found["p_referable"], found["refer"]) == ("not", 0.3, True)


def test_of_several_findings_all_likely_ones_are_named() -> None:
    found = answer_of({"task": "multilabel", "classes": ["effusion", "mass", "edema"]}, np.array([0.8, 0.2, 0.5]))
    assert found["class"] == "effusion; edema"
    assert found["probabilities"] == {"effusion": 0.8, "mass": 0.2, "edema": 0.5}


GOOD = packed(noisy(40, 40))


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        [GOOD],
        {"image": [GOOD]},
        [{"image": GOOD}],
        pd.DataFrame({"image": [GOOD]}),
        pd.DataFrame({"any": [GOOD]}),
        pd.Series([GOOD]),
        pd.DataFrame({"image": [noisy(40, 40)[..., ::-1]], "patient": ["x"]}),
        noisy(40, 40)[..., ::-1],
    ],
    ids=["bytes", "list", "dict", "records", "table", "only column", "series", "pixels in a table", "pixels"],
)
def test_one_image_in_any_wrapping_has_one_answer(code: ModuleType, tmp_path: Path, data: Any) -> None:
    found = student_of(code, tmp_path).predict(None, data)
    assert list(found.columns) == ["class", "probability", "probabilities", "error"]
    assert found["error"].tolist() == [None]
    assert found["probability"][0] == pytest.approx(max(found["probabilities"][0].values()))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (b"this is a text file", "the content is no image"),
        (b"", r"the file is empty"),
        (None, "image 1 is missing"),
        (float("nan"), "image 1 is missing"),
        ("photo.jpg", "image 1 is text, but no base64"),
        (GOOD[:60], "image 1: cut-off PNG"),
        ([[1, 2], [3]], r"image 1 has rows of several lengths"),
        ([[1, 2], [3, 4]], r"image 1 has shape \(2, 2\)"),
        ({"picture": GOOD}, "image 1: the row has no value named image"),
    ],
    ids=["text", "empty", "none", "nan", "name", "cut", "ragged", "grey", "other name"],
)
def test_a_bad_row_has_an_error_and_the_others_an_answer(code: ModuleType, tmp_path: Path, bad: Any, text: str) -> None:
    found = student_of(code, tmp_path).predict(None, [GOOD, bad, GOOD])
    assert found["error"].isna().tolist() == [True, False, True]
    assert re.search(text, found["error"][1])
    assert found["class"][0] == found["class"][2]
    assert found["class"][1] is None


def test_a_table_without_images_says_so_in_every_row(code: ModuleType, tmp_path: Path) -> None:
    found = student_of(code, tmp_path).predict(None, pd.DataFrame({"x": [1, 2], "y": [3, 4]}))
    assert found["error"].tolist() == [f"image {row}: the row has no value named image" for row in (0, 1)]


def test_no_image_has_no_answer(code: ModuleType, tmp_path: Path) -> None:
    assert len(student_of(code, tmp_path).predict(None, [])) == 0
