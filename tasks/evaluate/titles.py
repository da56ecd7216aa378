"""What people read for an arm and for a metric."""

from __future__ import annotations

from models.statistics.logit_shift import DECISIONS
from tasks.spec.arms import LABELS_ONLY, TAUGHT

_ARMS = {
    TAUGHT: "student, taught",
    LABELS_ONLY: "same student, labels alone",
    "random_start": "student, taught from a random start",
    "two_phase": "student, taught in two phases",
    "oracle": "same student, true labels of the pool",
    "teachers": "mean of the teachers",
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
    "grade_auc": "AUC of grades",
    "auc": "AUC",
    "ece": "ECE",
    "nll": "log loss",
    "qwk_cut_points": "quadratic kappa, cut points",
    "mae": "mean absolute error",
    "referable_auc": "referable AUC",
    "referable_ece": "referable ECE",
}
METRIC_TITLES |= {f"{name}_shifted": f"{METRIC_TITLES[name]}, shifted" for name in DECISIONS}


def title_of(arm: str) -> str:
    """What people read for an arm."""
    kind, _, name = arm.partition(":")
    return f"teacher {name}" if kind == "teacher" else _ARMS.get(arm, f"student, {arm.replace('_', ' ')}")
