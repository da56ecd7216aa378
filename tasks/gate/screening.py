"""The gate's rules on referral, at the operating point of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.data.decision_units import IMAGE
from tasks.gate.rules import FAILED, NOT_JUDGED, PASSED, Ruling
from tasks.spec.gate import GateSection


def rule_on_screening(found: Mapping[str, Any] | None, section: GateSection) -> list[Ruling]:
    """Rulings on sensitivity and specificity, of the decision unit, by the lower ends of their intervals.

    Args:
        found: as `tasks.data.decisions.operating_point` tells it.
    """
    rulings = []
    for name in ("sensitivity", "specificity"):
        least = getattr(section, name)
        if least is None:
            continue
        asks = f"the 95 % interval begins at {least:g} or above (gate.{name})"
        if found is None:
            why = "no threshold: the labelled validation images do not show both sides"
            rulings.append(Ruling(name, NOT_JUDGED, why, asks))
            continue
        value, span = found[name]["value"], found[name]["interval"]
        if value is None:
            rulings.append(Ruling(name, NOT_JUDGED, "the test images do not show both sides", asks))
            continue
        if span is None:
            rulings.append(Ruling(name, NOT_JUDGED, f"{value:.3f}, without an interval", asks))
            continue
        unit = "" if found["unit"] == IMAGE else f", by {found['unit']}"
        figure = f"{value:.3f} [{span[0]:.3f}, {span[1]:.3f}] at threshold {found['threshold']:.3f}{unit}"
        rulings.append(Ruling(name, PASSED if span[0] >= least else FAILED, figure, asks))
    return rulings
