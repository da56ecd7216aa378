"""Plots repeat, and class names cannot break them."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.drawing.plots import confusion_png, reliability_png

NAMES = ["none", "a $dollar name that is much longer than a tick label can be", "漢字"]


def _problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40), rng.integers(-1, 2, (40, 3))


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_equal_numbers_give_equal_bytes(task: str) -> None:
    prob, label, labels = _problem()
    many = labels if task == "multilabel" else None
    first, again = (
        (
            confusion_png(task, NAMES, prob, label, many, "Confusion"),
            reliability_png(task, [("a", prob), ("b", prob[::-1])], label, many, 10, "Reliability"),
        )
        for _ in range(2)
    )
    assert first == again


def test_the_picture_follows_the_numbers() -> None:
    prob, label, _ = _problem()
    first = confusion_png("single", NAMES, prob, label, None, "Confusion")
    assert confusion_png("single", NAMES, prob, (label + 1) % 3, None, "Confusion") != first
