"""What people read of a drift comparison: a table in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.drawing.markdown import cell_text, table_text
from tasks.drift.signals import MEANINGS
from tasks.gate.drifted import DRIFT, NONE, UNKNOWN

_HEADLINES = {
    NONE: "No drift was found",
    DRIFT: "The images drifted",
    UNKNOWN: "Drift is not known",
}

_HOW = (
    "Far is a distance from 0 (alike) to 1 (nothing in common). A signal is drift where it is above its limit and "
    "chance is excluded: `chance` is how often equal images would lie as far apart, corrected for the number of "
    "signals."
)


def page_of(name: str, facts: Mapping[str, Any], *, hold: bool) -> str:
    """Markdown; it names no image, patient or site.

    Args:
        name: of the registered model.
        facts: of a manifest of stage drift.
        hold: whether drift holds promotion.
    """
    parts = [f"# {name}: {_HEADLINES[facts['verdict']]}", facts["why"] + "."]
    if facts["verdict"] == DRIFT:
        parts.append(_next(hold))
    rows = [_row(each) for each in sorted(facts["signals"], key=lambda each: not each["drifted"])]
    if rows:
        parts += [table_text(["signal", "far", "limit", "chance", "new", "old", "verdict", "note"], rows), _HOW]
    drifted = [each for each in facts["signals"] if each["drifted"]]
    if drifted:
        parts.append("## What it means, and what to do")
        told = {each["name"]: MEANINGS[each["key"]] for each in drifted}
        parts.append("\n".join(f"- **{name}**: {each.means} {each.do}" for name, each in told.items()))
    return "\n\n".join(parts) + "\n"


def _next(hold: bool) -> str:
    if not hold:
        return "`drift.hold` is false: the gate does not hold the student for it."
    return (
        "The student was trained, and the gate holds it. Look at the new images. Where they are right and the test set "
        "has such images too, run once more with `--set drift.hold=false`; the student can then be promoted."
    )


def _row(signal: Mapping[str, Any]) -> list[str]:
    value, p = signal["value"], signal["p"]
    verdict = "not judged" if value is None else "drift" if signal["drifted"] else "within"
    return [
        cell_text(signal["name"]),
        "" if value is None else f"{value:.3f}",
        f"{signal['limit']:g}",
        "" if p is None else f"{p:.4f}",
        str(signal["new"]) if value is not None else "",
        str(signal["old"]) if value is not None else "",
        verdict,
        cell_text(signal["note"]),
    ]
