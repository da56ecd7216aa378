"""Tables and numbers in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

PHANTOM = (
    "**These images are phantoms, drawn by code. The figures prove that the plumbing works; they say nothing "
    "about medicine.**"
)
"""Heads every page about images that were drawn by code."""


def table_text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Three digits, or undefined."""
    return "undefined" if value is None else f"{value:.3f}"


def interval_text(interval: Sequence[float | None] | None) -> str:
    """An interval behind its figure; "" where there is none."""
    return f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""


def cell_text(name: str) -> str:
    """A name that may hold what would end a cell or a row."""
    return name.replace("|", r"\|").replace("\n", " ")
