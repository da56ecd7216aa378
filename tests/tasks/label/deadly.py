"""Teachers that are functions: one that takes its time, and that a black picture kills if it is asked to be."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np

SECONDS_AN_IMAGE = 0.02


def teacher(
    *, deadly: bool = False, classes: int = 3, busy: float = SECONDS_AN_IMAGE
) -> Callable[[np.ndarray], np.ndarray]:
    """Logits [B, C] are means of colours over thirds of the picture; `busy` seconds an image."""

    def ask(images: np.ndarray) -> np.ndarray:
        if deadly and (images.max(axis=(1, 2, 3)) < 8).any():
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.monotonic() + busy * len(images)
        logits = _means(images, classes)
        while time.monotonic() < end:
            logits = _means(images, classes)
        return logits

    return ask


def picky(*, classes: int = 3) -> Callable[[np.ndarray], np.ndarray]:
    """Raises where a picture is black."""

    def ask(images: np.ndarray) -> np.ndarray:
        if (images.max(axis=(1, 2, 3)) < 8).any():
            raise ValueError("a black picture")
        return _means(images, classes)

    return ask


def _means(images: np.ndarray, classes: int) -> np.ndarray:
    bands = np.array_split(images.astype(np.float32) / 16, classes, axis=1)
    return np.stack([band.mean(axis=(1, 2, 3)) for band in bands], axis=1)
