"""What can be had without medicine: the majority, a linear model on thumbnails, and one on image borders.

A student that does not beat these has learnt the camera, not the disease.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import cv2
import numpy as np

THUMBNAIL = 16
SIDE = 96  # of the downscale whose frame is looked at
FRAME = 6  # its width: about 6 % of each side, and the side of a pooled block
THUMBNAIL_VALUES = 3 * THUMBNAIL**2
BORDER_VALUES = 3 * 4 * (SIDE // FRAME - 1)  # blocks along the frame, three channels each
STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # inverse regularisation, scikit-learn's C

Score = Callable[[np.ndarray], float | None]


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [768] in 0..1: the whole image, area-averaged to 16 x 16."""
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel() / 255


def border(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [180] in 0..1: block means of the outer 6 % frame, the inside unseen."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    blocks = small.reshape(SIDE // FRAME, FRAME, SIDE // FRAME, FRAME, 3).mean(axis=(1, 3))
    frame = np.ones(blocks.shape[:2], dtype=bool)
    frame[1:-1, 1:-1] = False
    return (blocks[frame] / 255).ravel()


def majority(task: str, label: np.ndarray, labels: np.ndarray | None, classes: int, rows: int) -> np.ndarray:
    """[rows, C] float64: the same shares for every image, those of the labelled training images."""
    if labels is not None:
        known = (labels >= 0).sum(axis=0)
        prior = (labels == 1).sum(axis=0) / np.maximum(known, 1)
    else:
        count = np.bincount(label[label >= 0], minlength=classes)
        prior = count / max(count.sum(), 1)
    return np.tile(prior.astype(np.float64), (rows, 1))


def linear(
    task: str,
    train: np.ndarray,
    label: np.ndarray,
    labels: np.ndarray | None,
    others: list[np.ndarray],
    classes: int,
    score: Score,
) -> list[np.ndarray]:
    """Logistic regression on standardised features; one against the rest for multilabel.

    The strength of the regularisation is the one that scores best on validation (the first, strongest one
    where validation cannot say).

    Args:
        train: [N, F] features of the labelled training images.
        label: [N] int; labels: [N, C] int for multilabel, else None.
        others: features of validation and of test.
        score: validation probabilities to a number, larger is better, or None.

    Returns:
        probabilities [M, C] for each of `others`; a class unseen in training gets 0.
    """
    best: list[np.ndarray] = []
    best_score = -np.inf
    for strength in STRENGTHS:
        if labels is None:
            found = _fit(train, label, others, classes, strength)
        else:
            columns = []
            for c in range(classes):
                known = labels[:, c] >= 0
                each = _fit(train[known], labels[known, c], others, 2, strength)
                columns.append([p[:, 1] for p in each])
            found = [np.stack([column[i] for column in columns], axis=1) for i in range(len(others))]
        value = score(found[0]) if len(found[0]) else None
        if not best or (value is not None and value > best_score):
            best, best_score = found, value if value is not None else -np.inf
    return best


def _fit(
    train: np.ndarray, label: np.ndarray, others: list[np.ndarray], classes: int, strength: float
) -> list[np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    out = [np.zeros((len(rows), classes)) for rows in others]
    seen = np.unique(label)
    if len(seen) < 2:
        # Nothing to separate: the one class that was seen, or the class 0 of an empty table.
        for prob in out:
            prob[:, int(seen[0]) if len(seen) else 0] = 1.0
        return out
    mean, spread = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    model = LogisticRegression(C=strength, max_iter=500)
    with warnings.catch_warnings():
        # 500 steps of a convex problem are near enough for a yardstick.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((train - mean) / spread, label)
    for prob, rows in zip(out, others, strict=True):
        if len(rows):
            prob[:, model.classes_.astype(int)] = model.predict_proba((rows - mean) / spread)
    return out
