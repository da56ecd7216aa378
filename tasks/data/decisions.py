"""What an evaluation says of how one model's probabilities are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.statistics.logit_shift import shifted
from models.statistics.ordinal import CutPoints, decide, expected_grade


def decision_of(facts: Mapping[str, Any], arm: str, seed: int) -> dict[str, Any]:
    """How one model decides, from the facts of an evaluation; JSON-safe.

    Returns:
        graded corpora: `cut_points`, `temperature` and `referable`; corpora of one class an image: `decide_for` and
        `logit_shift`; where something is referred `operating_point`; else empty.
    """
    grades, decisions = facts.get("grades"), facts.get("decisions")
    found: dict[str, Any] = {}
    if grades is not None:
        own = _reading(grades, arm, seed)
        found = {**{k: own[k] for k in ("cut_points", "temperature")}, "referable": grades["referable"]}
    elif decisions is not None:
        found = {"decide_for": decisions["metric"], "logit_shift": _reading(decisions, arm, seed)["logit_shift"]}
    point = operating_point(facts, arm, seed)
    return found if point is None else {**found, "operating_point": point}


def decided(facts: Mapping[str, Any], prob: np.ndarray) -> np.ndarray:
    """The class that the registered student decides for, int [N]: by cut points, by shifted logits, or the likeliest.

    Args:
        facts: of the report, with a student in `best`; not of a multilabel corpus.
        prob: [N, C] of that student.
    """
    best = facts["best"]
    how = decision_of(facts, best["arm"], best["seed"])
    if how.get("cut_points"):
        return decide(expected_grade(prob), CutPoints(tuple(how["cut_points"]), ()))
    if how.get("logit_shift"):
        return np.asarray(shifted(prob, np.array(how["logit_shift"])).argmax(axis=1))
    return np.asarray(prob.argmax(axis=1))


def operating_point(facts: Mapping[str, Any], arm: str, seed: int) -> dict[str, Any] | None:
    """From which probability a model refers; None where nothing is referred or no threshold could be chosen.

    `of`: what is referred; `threshold`: on its probability, after p ** (1 / `temperature`) is scaled to sum 1;
    `unit`, `aggregate`: how the images of one decision become one probability; `sensitivity`, `specificity` and
    `missed_severe` on the test images, each {value, interval}; `image`: the same of single images, where the unit is
    none. See `tasks.evaluate.screening`.
    """
    found = facts.get("screening")
    if found is None:
        return None
    own = next(each for each in found["arms"][arm]["seeds"] if each["seed"] == seed)
    return None if own["threshold"] is None else {name: value for name, value in own.items() if name != "seed"}


def _reading(section: Mapping[str, Any], arm: str, seed: int) -> Mapping[str, Any]:
    return next(each for each in section["readings"][arm] if each["seed"] == seed)
