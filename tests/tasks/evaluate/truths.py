"""Labelled images that were never drawn."""

from __future__ import annotations

import numpy as np

from tasks.evaluate.arms import Truth


def truth_of(label: list[int], leak: list[int] | None = None) -> Truth:
    """An image and a patient a label."""
    n = len(label)
    return Truth(
        keys=np.array([f"k{i}" for i in range(n)], dtype=object),
        label=np.array(label, dtype=int),
        labels=None,
        patient=np.array([f"p{i}" for i in range(n)], dtype=object),
        leak=np.array(leak or [0] * n, dtype=bool),
    )
