"""Parts of a frame that are painted black: text, insets and corners that show the device or the patient's name.

The same parts are painted in every image of a corpus, whether there is something in them or not. A mask that followed
what each frame shows would itself tell which frames have an overlay, and in endoscopy that gives classes away.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Polygon = Sequence[Sequence[float]]
"""Corners (x, y) as shares of the frame's width and height."""


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """A rectangle's corners."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


# Of frames with text on the left, the endoscope's position in the corner below it and an octagonal field. On 800 real
# Hyper-Kvasir frames of five classes, by the official folds, the balanced accuracy of a linear model on the outer 6 %
# of the frame falls from .892 to .629, on thumbnails from .882 to .747 (tests/bench/frame_masks.py). Of frames with
# their text elsewhere some is left.
PRESETS: dict[str, list[list[list[float]]]] = {
    "hyper-kvasir": [
        box(0, 0, 0.24, 0.66),
        box(0, 0.65, 0.345, 1),
        box(0.92, 0.72, 1, 0.87),
        [[0, 0], [0.18, 0], [0, 0.22]],
        [[0.82, 0], [1, 0], [1, 0.22]],
        [[1, 0.78], [1, 1], [0.82, 1]],
        [[0, 0.78], [0, 1], [0.18, 1]],
    ],
}


def polygons_of(mask: str | Sequence[Polygon]) -> list[list[list[float]]]:
    """Polygons of a preset, or those given."""
    found: Sequence[Polygon] = PRESETS[mask] if isinstance(mask, str) else mask
    return [[[float(x), float(y)] for x, y in polygon] for polygon in found]


def paint(image: np.ndarray, polygons: Sequence[Polygon]) -> np.ndarray:
    """A copy of the image [H, W, 3] with the polygons black."""
    if not polygons:
        return image
    height, width = image.shape[:2]
    painted = np.ascontiguousarray(image).copy()
    for polygon in polygons:
        # A corner on the frame's far edge is its last pixel.
        corners = np.floor(np.array(polygon) * [width, height] - 0.5).astype(np.int32)
        cv2.fillPoly(painted, [np.maximum(corners, 0)], (0, 0, 0))
    return painted
