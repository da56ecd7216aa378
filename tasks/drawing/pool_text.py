"""How many images of the unlabelled pool teach, and why the others do not: a line for reports and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RULES = {"no_teacher": "without a valid answer of every teacher"}


def pool_text(facts: Mapping[str, Any], *, used: bool = True) -> str:
    """One sentence.

    Args:
        facts: of a select manifest: `unlabelled`, `dropped` and `dropped_by_rule`.
        used: whether the student is shown unlabelled images at all.
    """
    count, dropped = facts["unlabelled"], facts["dropped"]
    if not count:
        return "The corpus has no unlabelled images: the student is taught on the labelled ones alone."
    taught = count - dropped if used else 0
    text = f"{taught:,} of the pool's {count:,} unlabelled images teach the student"
    if not used:
        return f"{text}: student.pool is labelled."
    why = [f"{n:,} {_RULES.get(rule, f'by {rule}')}" for rule, n in facts["dropped_by_rule"].items() if n]
    return f"{text}; left out: {', '.join(why)}." if why else f"{text}."
