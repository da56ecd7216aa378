"""What a student answers for one image: class and probabilities, and where they are known, grade and referral.

Part of the one file that travels with every registered model (`tasks.register.consumer`); how grades, referral and
classes are decided stands in about.json, as the evaluation fitted it on validation images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

LEAST = 1e-12
"""Probabilities below count as this before their logarithm is taken."""

LIKELY = 0.5
"""Of several findings, those at least as probable are named."""


def answer_of(about: Mapping[str, Any], prob: np.ndarray) -> dict[str, Any]:
    """The answer for one image; JSON-safe.

    Args:
        about: content of about.json.
        prob: [C] probabilities in the order of `about["classes"]`.

    Returns:
        {class, probability, probabilities}; with `grade` where cut points are known, `p_referable` where something is
        referred, `refer` where an operating point is known. Of several findings, `class` has all that are at least
        LIKELY, separated by "; ".
    """
    classes = about["classes"]
    found = [float(value) for value in prob]
    answer: dict[str, Any] = {"class": "", "probability": 0.0, "probabilities": dict(zip(classes, found, strict=True))}
    if about["task"] == "multilabel":
        likely = [name for name, value in zip(classes, found, strict=True) if value >= LIKELY]
        return {**answer, "class": "; ".join(likely), "probability": max(found)}
    place = _grade(about, prob)
    if place is None:
        place = int(np.argmax(_logarithms(prob) + np.asarray(about.get("logit_shift") or 0.0)))
    else:
        answer["grade"] = place
    answer |= {"class": classes[place], "probability": found[place]}
    referable = _referable(about, prob)
    if referable is not None:
        answer["p_referable"] = referable
        point = about.get("operating_point")
        if point is not None:
            answer["refer"] = bool(referable >= point["threshold"])
    return answer


def answer_names(about: Mapping[str, Any]) -> list[str]:
    """Keys of an answer, in order, as far as the model knows them."""
    even = np.full(len(about["classes"]), 1 / len(about["classes"]))
    return list(answer_of(about, even))


def _grade(about: Mapping[str, Any], prob: np.ndarray) -> int | None:
    """Number of cut points at or below the expected grade."""
    cuts = about.get("cut_points")
    if cuts is None:
        return None
    expected = float(np.asarray(prob, dtype=np.float64) @ np.arange(len(prob)))
    return int(np.searchsorted(np.asarray(cuts), expected, side="right"))


def _referable(about: Mapping[str, Any], prob: np.ndarray) -> float | None:
    """Calibrated probability of the grades that are referred, or that of the class `referable` of two."""
    first = about.get("referable")
    if first is not None:
        logits = _logarithms(prob) / (about.get("temperature") or 1.0)
        raised = np.exp(logits - logits.max())
        return float(np.clip((raised / raised.sum())[first:].sum(), 0.0, 1.0))
    if about["task"] == "single" and len(about["classes"]) == 2 and "referable" in about["classes"]:
        return float(prob[about["classes"].index("referable")])
    return None


def _logarithms(prob: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(prob, dtype=np.float64), LEAST))
