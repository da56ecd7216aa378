"""Words, numbers and tables of the evaluation's report."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.evaluate.results import LABELS_ONLY, TAUGHT

TITLES = {
    TAUGHT: "student, taught",
    LABELS_ONLY: "same student, labels alone",
    "majority": "majority",
    "thumbnails": "thumbnails 16 x 16",
    "borders": "image borders",
}
METRIC_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mcc": "MCC",
    "qwk": "quadratic kappa",
    "auc": "AUC",
    "ece": "ECE",
    "nll": "log loss",
    "qwk_cut_points": "quadratic kappa, cut points",
    "mae": "mean absolute error",
    "referable_auc": "referable AUC",
    "referable_ece": "referable ECE",
}


def title_of(arm: str) -> str:
    """What people read for an arm."""
    kind, _, name = arm.partition(":")
    return f"teacher {name}" if kind == "teacher" else TITLES.get(arm, arm)


def table_text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Three digits, or undefined."""
    return "undefined" if value is None else f"{value:.3f}"


def cell_text(name: str) -> str:
    """A name that may hold what would end a cell."""
    return name.replace("|", r"\|")
