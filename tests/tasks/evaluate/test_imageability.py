"""Ungradable test images and their share."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks.data.catalog import CATALOG, LEFT_OUT, OK, UNGRADABLE, with_attributes
from tasks.evaluate.imageability import imageability, imageability_text

LABEL = [0, 1, 2] * 20


def catalog(gradable: list[bool | None], **columns: list[Any]) -> pa.Table:
    """Sixty test images of 30 patients, and those after them without a label."""
    n = len(gradable)
    label = (LABEL + [-1] * n)[:n]
    rows = {"key": [f"k{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)], "label": label}
    rows |= {"gradable": gradable, "split": ["test"] * n, "status": [OK] * n, "reason": [""] * n, **columns}
    schema = pa.schema([CATALOG.field(name) for name in rows])
    return with_attributes(pa.table(rows, schema=schema))


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


def test_the_report_says_how_many_count_in_no_metric() -> None:
    gradable = [False] * 6 + [True] * 54
    text = imageability_text({"imageability": imageability(catalog(gradable), resamples=0)})
    assert "Of 60 test images of 30 patients 54 can be graded, a share of 0.900; 6 cannot, and 0 of these" in text
