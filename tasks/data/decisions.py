"""What an evaluation says of how one model's probabilities are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def decision_of(facts: Mapping[str, Any], arm: str, seed: int) -> dict[str, Any]:
    """How one model decides, from the facts of an evaluation; JSON-safe.

    Returns:
        graded corpora: `cut_points`, `temperature` and `referable`; corpora of one class an image: `decide_for` and
        `logit_shift`; else empty.
    """
    grades, decisions = facts.get("grades"), facts.get("decisions")
    if grades is not None:
        own = _reading(grades, arm, seed)
        return {**{k: own[k] for k in ("cut_points", "temperature")}, "referable": grades["referable"]}
    if decisions is not None:
        return {"decide_for": decisions["metric"], "logit_shift": _reading(decisions, arm, seed)["logit_shift"]}
    return {}


def _reading(section: Mapping[str, Any], arm: str, seed: int) -> Mapping[str, Any]:
    return next(each for each in section["readings"][arm] if each["seed"] == seed)
