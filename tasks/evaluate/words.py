"""Words, numbers and tables of the evaluation's report."""

from __future__ import annotations

from tasks.spec.arms import LABELS_ONLY, TAUGHT

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
