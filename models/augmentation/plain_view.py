"""The plain view of a stored image, and views as a network's input.

Registered students carry this file's text in their code, so it imports numpy and OpenCV alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def decode(data: bytes) -> np.ndarray:
    """Encoded image -> RGB uint8 [H, W, 3]; ValueError when OpenCV cannot read the bytes as an image."""
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"{len(data)} bytes that start with {data[:4]!r} are not an image")
    return np.asarray(image)


def plain_view(image: np.ndarray, side: int) -> np.ndarray:
    """The largest centred square, area-averaged (bilinear where it grows).

    Args:
        image: RGB uint8 [H, W, 3].

    Returns:
        RGB uint8 [side, side, 3].
    """
    height, width = image.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    return resize(image[top : top + least, left : left + least], side)


def to_input(views: np.ndarray, size: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Rendered views as the input of one model.

    Args:
        views: RGB uint8 [B, S, S, 3].
        size: side of the model's input; shrinking averages areas, growing is bilinear.
        mean, std: per channel, for values scaled to 0..1.

    Returns:
        float32 [B, 3, size, size], (x / 255 - mean) / std. The memory is channels-last, so that
        `torch.from_numpy` gives a channels_last tensor without a copy.
    """
    if views.ndim != 4 or views.dtype != np.uint8 or views.shape[3] != 3:
        raise ValueError(f"to_input needs uint8 [B, S, S, 3], got {views.dtype} {list(views.shape)}")
    scale = np.tile(1.0 / (255.0 * np.asarray(std, dtype=np.float64)), size).astype(np.float32)
    shift = np.tile(np.asarray(mean, dtype=np.float64) / np.asarray(std, dtype=np.float64), size).astype(np.float32)
    x = np.empty((len(views), size, size, 3), dtype=np.float32)
    for row, view in enumerate(views):
        # Image by image, to fit the cache, and whole lines: numpy is ten times slower on an innermost axis of three.
        lines = x[row].reshape(size, size * 3)
        lines[...] = (view if len(view) == size else resize(view, size)).reshape(size, size * 3)
        lines *= scale
        lines -= shift
    return x.transpose(0, 3, 1, 2)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 [H, W, 3] as uint8 [side, side, 3]: shrinking averages areas, growing is bilinear; always a copy."""
    if image.shape[0] == side and image.shape[1] == side:
        return image.copy()
    shrinks = image.shape[0] >= side and image.shape[1] >= side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method))
