"""How closely a student follows its teachers, beside the best prediction that does not look at the image.

A student that has learnt next to nothing of its teachers has a divergence near that of the constant and an R^2 near 0;
whether it then underfits shows on the images that it was trained on.
"""

from __future__ import annotations

import math

import numpy as np

from models.statistics.metrics import probabilities

FLOOR = 1e-12
"""Least probability in a logarithm."""


def teacher_fit(task: str, teacher_NC: np.ndarray, student_NC: np.ndarray) -> dict[str, float]:
    """`kl`, `r2` and `constant_kl` of a student against its teachers.

    Compared are the outputs of the task: classes (single), the thresholds "worse than k" (ordinal) or findings
    (multilabel). `kl` is the mean over images of KL(teacher || student) in nats; of thresholds and findings it is the
    mean of their binary divergences. `constant_kl` is that of the teachers' mean prediction, the best constant one.
    `r2` is the share of the variance of the teachers' probabilities that the student explains; NaN where they do not
    vary.

    Args:
        task: single, ordinal or multilabel.
        teacher_NC: the teachers' mean probabilities, [N, C].
        student_NC: the student's logits, [N, C].

    Raises:
        ValueError: no image.
    """
    if not len(teacher_NC):
        raise ValueError("a student is compared with its teachers on one image at least")
    teacher = _outputs(task, np.asarray(teacher_NC, dtype=np.float64))
    student = _outputs(task, probabilities(task, student_NC))
    constant = teacher.mean(axis=0, keepdims=True)
    spread = np.square(teacher - constant).sum()
    left = np.square(teacher - student).sum()
    return {
        "kl": _divergence(task, teacher, student),
        "r2": float(1 - left / spread) if spread > FLOOR else math.nan,
        "constant_kl": _divergence(task, teacher, np.broadcast_to(constant, teacher.shape)),
    }


def _outputs(task: str, prob_NC: np.ndarray) -> np.ndarray:
    """Probabilities of the task's outputs: of graded corpora those of "worse than k", [N, C - 1]."""
    return 1 - prob_NC.cumsum(axis=1)[:, :-1] if task == "ordinal" else prob_NC


def _divergence(task: str, p: np.ndarray, q: np.ndarray) -> float:
    if task == "single":
        return float(_part(p, q).sum(axis=1).mean())
    return float((_part(p, q) + _part(1 - p, 1 - q)).mean())


def _part(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.asarray(p * (np.log(np.maximum(p, FLOOR)) - np.log(np.maximum(q, FLOOR))))
