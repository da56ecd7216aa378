"""The gate's rule on drift: what the stage drift found holds promotion, and never training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.gate.rules import FAILED, PASSED, Ruling
from tasks.spec.drift import DriftSection

RULE = "drift"

NONE, DRIFT, UNKNOWN = "none", "drift", "unknown"
"""Verdicts of stage drift; unknown: there is no champion, or its data are gone."""


def drifted_signals(facts: Mapping[str, Any]) -> list[str]:
    """Names of the signals that drifted, sorted."""
    return sorted(str(signal["name"]) for signal in facts["signals"] if signal["drifted"])


def rule_on_drift(facts: Mapping[str, Any], section: DriftSection, *, same: bool) -> list[Ruling]:
    """The ruling, where there is a champion to compare with and drift holds.

    Args:
        facts: of a manifest of stage drift.
        same: the student serves already, so that there is nothing to hold.
    """
    if not section.hold or same or facts["verdict"] == UNKNOWN:
        return []
    asks = "images like those that the champion learned from (drift.hold)"
    return [Ruling(RULE, FAILED if facts["verdict"] == DRIFT else PASSED, facts["why"], asks)]
