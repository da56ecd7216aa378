"""Recall of each class as the student that would be registered decides: by cut points, by a shift, or the likeliest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.data.decisions import decided
from tasks.gate.comparison import Tested


def with_decided_recalls(facts: Mapping[str, Any], found: Tested) -> dict[str, Any]:
    """Facts of a report whose `per_class` has recall as the student decides; an evaluation's own is by the likeliest.

    Several labels of an image are each decided at 0.5, as they are there.
    """
    if facts["task"] == "multilabel":
        return dict(facts)
    said = decided(facts, found.prob)
    rows = []
    for number, row in enumerate(facts["per_class"]):
        own = found.truth.label == number
        rows.append({**row, "recall": float(np.mean(said[own] == number)) if own.any() else None})
    return {**facts, "per_class": rows}
