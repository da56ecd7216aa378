"""What a teacher's numbers mean: logits, or probabilities that are turned into logits, and which of them they are.

A network of ours or of timm ends in a linear layer. What an ONNX file, a function or a table holds is not known: a
softmax at its end would be applied twice, which flattens a probability of 0.98 to 0.57.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infra.errors import UsageError
from tasks.teachers.teacher import TeacherModel

LEAST_ROWS = 4
"""Fewer rows may look like probabilities by chance."""

RECOGNISED, ALLOWED = 2e-3, 2e-2
"""How far from 1 rows of probabilities may sum: to be recognised as such, and where the spec says that they are."""

FLOOR = 1e-7
"""Least probability that a logarithm is taken of."""


def to_logits(teacher: TeacherModel, values: np.ndarray, keys: Sequence[str] | np.ndarray, *, many: bool) -> np.ndarray:
    """Logits of what a teacher said of some images.

    Args:
        values: float32 [N, C]; rows that are not finite stay as they are.
        keys: of the images, for messages.
        many: whether classes are decisions of their own (multilabel).

    Returns:
        float32 [N, C]: the values, or where the spec says `outputs: probabilities` their logarithms, of multilabel
        corpora log(p / (1 - p)).

    Raises:
        UsageError: the values are probabilities and the spec does not say so, or the other way round.
    """
    finite = np.isfinite(values).all(axis=1)
    known = values[finite]
    if teacher.outputs in ("softmax", "sigmoid"):
        wrong = np.flatnonzero(~_are_probabilities(known, many=many, off=ALLOWED))
        if len(wrong):
            row = int(np.flatnonzero(finite)[wrong[0]])
            what = "lies outside of 0 to 1" if many else "is not between 0 and 1 with a sum of 1"
            raise UsageError(
                f"teacher {teacher.name}: outputs: probabilities, but of {keys[row]} it says "
                f"{_shown(values[row])}, which {what}; set outputs: logits"
            )
        logits = values.copy()
        logits[finite] = _logits(known, many=many)
        return logits
    if teacher.outputs == "" and teacher.kind in ("onnx", "python", "table") and looks_like(known, many=many):
        first = int(np.flatnonzero(finite)[0])
        raise UsageError(
            f"teacher {teacher.name}: what it says looks like probabilities, not logits: of {keys[first]} "
            f"{_shown(values[first])}, and all of {len(known)} rows lie between 0 and 1"
            f"{'' if many else ' with a sum of 1'}. Set outputs: probabilities in its section, and their logarithms "
            "are taken; or outputs: logits where they are logits after all"
        )
    return values


def looks_like(values: np.ndarray, *, many: bool) -> bool:
    """Whether finite rows [N, C] are probabilities, every one of them, and not merely zeros."""
    if len(values) < LEAST_ROWS or not values.any():
        return False
    return bool(_are_probabilities(values, many=many, off=RECOGNISED).all())


def _are_probabilities(values: np.ndarray, *, many: bool, off: float) -> np.ndarray:
    """bool [N]."""
    inside = ((values >= -off) & (values <= 1 + off)).all(axis=1)
    return np.asarray(inside if many else inside & (np.abs(values.sum(axis=1) - 1) <= off))


def _logits(prob: np.ndarray, *, many: bool) -> np.ndarray:
    floored = np.clip(prob.astype(np.float64), FLOOR, 1 - FLOOR if many else 1)
    return (np.log(floored) - (np.log1p(-floored) if many else 0)).astype(np.float32)


def _shown(row: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in row[:4]) + (", ..." if len(row) > 4 else "")
