"""Ungradable test images: their share, and screening that refers them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.data.catalog import CATALOG, LEFT_OUT, OK, UNGRADABLE, with_attributes
from tasks.evaluate.arms import Arm, Truth
from tasks.evaluate.imageability import imageability, imageability_text, screening
from tests.tasks.evaluate.truths import truth_of

LABEL = [0, 1, 2] * 20


def catalog(gradable: list[bool | None], **columns: list[Any]) -> pa.Table:
    """The test images of `truth_of(LABEL)`, and those after them without a label."""
    n = len(gradable)
    label = (LABEL + [-1] * n)[:n]
    rows = {"key": [f"k{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)], "label": label}
    rows |= {"gradable": gradable, "split": ["test"] * n, "status": [OK] * n, "reason": [""] * n, **columns}
    schema = pa.schema([CATALOG.field(name) for name in rows])
    return with_attributes(pa.table(rows, schema=schema))


def student(said: list[int]) -> Arm:
    prob = 0.05 + 0.85 * np.eye(3)[said]
    return Arm("taught", seeds=(0,), val=(np.zeros((0, 3)),), test=(prob,))


def screened(said: list[int], gradable: list[bool | None], resamples: int = 0) -> dict[str, Any]:
    val, test = truth_of([]), truth_of(LABEL)
    return screening(catalog(gradable), [student(said)], val, test, referable=1, resamples=resamples)


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert imageability(catalog([None] * 60), resamples=100) is None


def test_the_share_of_gradable_images_has_an_interval_over_patients() -> None:
    found = imageability(catalog([False] * 12 + [True] * 46 + [None] * 2), resamples=500)
    assert found is not None
    assert (found["images"], found["patients"], found["ungradable"], found["unknown"]) == (60, 30, 12, 2)
    assert found["share"] == 0.8
    low, high = found["interval"]
    assert 0.6 < low < 0.8 < high < 0.95


def test_ungradable_images_without_a_label_are_counted_though_left_out() -> None:
    gradable = [True] * 60 + [False] * 4
    found = imageability(
        catalog(gradable, status=[OK] * 60 + [LEFT_OUT] * 4, reason=[""] * 60 + [UNGRADABLE] * 3 + ["corpus.where"]),
        resamples=0,
    )
    assert found is not None
    assert (found["images"], found["ungradable"], found["unlabelled"], found["interval"]) == (63, 3, 3, None)


def test_images_of_other_splits_do_not_count() -> None:
    assert imageability(catalog([False] * 60, split=["train"] * 60), resamples=0) is None


def test_an_ungradable_image_is_referred_whatever_the_network_says() -> None:
    nothing = screened([0] * 60, [True] * 60)["arms"]["taught"]
    assert (nothing["sensitivity"]["value"], nothing["specificity"]["value"]) == (0.0, 1.0)
    found = screened([0] * 60, [False] * 6 + [True] * 54)
    assert found["referred"] == 6
    row = found["arms"]["taught"]
    assert row["sensitivity"]["value"] == pytest.approx(4 / 40)
    assert row["specificity"]["value"] == pytest.approx(18 / 20)


def test_screening_has_intervals_over_patients() -> None:
    row = screened([0, 1, 0] * 20, [False] * 3 + [True] * 57, resamples=300)["arms"]["taught"]
    low, high = row["sensitivity"]["interval"]
    assert low < row["sensitivity"]["value"] < high


def test_a_figure_without_images_is_undefined() -> None:
    test = Truth(*(getattr(truth_of([0] * 60), name) for name in ("keys", "label", "labels", "patient", "leak")))
    found = screening(catalog([True] * 60), [student([0] * 60)], truth_of([]), test, referable=1, resamples=50)
    assert found["arms"]["taught"]["sensitivity"] == {"value": None, "interval": None}


def test_the_report_says_how_many_count_in_no_metric() -> None:
    gradable = [False] * 6 + [True] * 54
    facts = {"imageability": imageability(catalog(gradable), resamples=0), "screening": screened([0] * 60, gradable)}
    text = imageability_text(facts)
    assert "Of 60 test images of 30 patients 54 can be graded, a share of 0.900; 6 cannot, and 0 of these" in text
    assert "| student, taught | 0.100 | 0.900 |" in text
    assert "6 labelled test images that cannot be graded count as referred" in text
