"""Where in a frame the picture is: a fundus camera's disc, an endoscope's field beside its black borders and text.

Both are looked for on a small copy: what is brighter than the margin, opened so that text and specks vanish,
and of that the largest connected part. When the answer is odd the frame stays whole: a crop that is
missed costs some pixels, a wrong one costs the lesion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

_SIDE = 256  # longer side of the small copy in pixels; a box is right to about 1/256 of it
_CORNER = 12  # pixels of the small copy a side in which the margin's level is measured
_BLACK = 48.0  # level above which a corner is no margin but picture
_LEAST = 4.0  # levels that content is brighter than the margin; very dark photographs have no more
_SHARE = 0.06  # of the range between margin and bright content; keeps halos around a bright disc out
_NEARLY_ALL = 0.97  # of both sides: nothing worth cutting
_FUNDUS_LEAST = 0.08  # of the frame; a disc of a third of its width
_FUNDUS_ASPECT = 1.6  # longer side of a field of view over its shorter one, cut-off photographs included
_FUNDUS_FILL = 0.66  # of the box by the convex hull; a disc fills 0.785
_ENDOSCOPY_LEAST = 0.3  # of the frame
_ENDOSCOPY_SIDE = 0.4  # of each side of the frame
_ENDOSCOPY_FILL = 0.6  # of the box by the convex hull


@dataclass(frozen=True)
class Box:
    """A part of a frame, in shares of its width and height: the same at every decoding scale."""

    left: float
    top: float
    right: float
    bottom: float
    square: bool  # padded with black to a square

    def side(self, width: int, height: int) -> float:
        """Shorter side in pixels of what `cut` makes of a frame of `width` x `height`."""
        sides = (self.right - self.left) * width, (self.bottom - self.top) * height
        return max(sides) if self.square else min(sides)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of `image` [H, W, 3]."""
        height, width = image.shape[:2]
        left, right = round(self.left * width), round(self.right * width)
        top, bottom = round(self.top * height), round(self.bottom * height)
        part = image[top:bottom, left:right]
        if not self.square:
            return np.ascontiguousarray(part)
        tall, wide = part.shape[:2]
        side = max(tall, wide)
        above, before = (side - tall) // 2, (side - wide) // 2
        edges = (above, side - tall - above, before, side - wide - before)
        return np.asarray(cv2.copyMakeBorder(part, *edges, cv2.BORDER_CONSTANT, value=(0, 0, 0)))


def find_fundus(image: np.ndarray) -> Box | None:
    """The field of view of a fundus photograph, to be padded to a square; None where none is found.

    A disc that the frame cuts off at two sides is kept as wide as it is. The frame stays whole when the field
    covers nearly all of it, too little of it, or is no disc.

    Args:
        image: BGR uint8 [H, W, 3], at any scale.
    """
    mask = _bright(image)
    part = _largest(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(7)))
    if part is None or _dark_corners(mask) < 3:
        return None
    (_, _, wide, tall), hull = part
    rows, columns = mask.shape
    if wide * tall < _FUNDUS_LEAST * mask.size or max(wide, tall) > _FUNDUS_ASPECT * min(wide, tall):
        return None
    if hull < _FUNDUS_FILL * wide * tall or (wide >= _NEARLY_ALL * columns and tall >= _NEARLY_ALL * rows):
        return None
    return _box(part[0], mask.shape, square=True)


def find_endoscopy(image: np.ndarray) -> Box | None:
    """The endoscope's field without black borders and without panels of text beside it; None where none is found.

    Args:
        image: BGR uint8 [H, W, 3], at any scale.
    """
    mask = _bright(image)
    # Text goes first, or closing would join its letters into a block; closing then mends a field that folds part.
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(9))
    part = _largest(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(9)))
    if part is None:
        return None
    (_, _, wide, tall), hull = part
    rows, columns = mask.shape
    if wide * tall < _ENDOSCOPY_LEAST * mask.size or min(wide / columns, tall / rows) < _ENDOSCOPY_SIDE:
        return None
    if hull < _ENDOSCOPY_FILL * wide * tall or (wide >= _NEARLY_ALL * columns and tall >= _NEARLY_ALL * rows):
        return None
    return _box(part[0], mask.shape, square=False)


FINDERS: dict[str, Callable[[np.ndarray], Box | None]] = {"fundus": find_fundus, "endoscopy": find_endoscopy}


def _bright(image: np.ndarray) -> np.ndarray:
    """Mask (0 or 255) [h, w] of a small copy: what is brighter than the frame's darkest corner."""
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    blue, green, red = cv2.split(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    grey = np.asarray(cv2.max(cv2.max(blue, green), red))
    n = min(_CORNER, *grey.shape)
    # Of corners equally dark the quietest: another may hold text.
    level, high = min((float(np.median(part)), float(np.percentile(part, 90))) for part in _corners(grey, n))
    if level > _BLACK:
        return np.zeros_like(grey)
    threshold = level + max(_LEAST, 3 * (high - level), _SHARE * (percentile_of(grey, 95) - level))
    return np.asarray((grey > threshold).astype(np.uint8) * 255)


def percentile_of(grey: np.ndarray, q: float) -> float:
    """What np.percentile says of uint8 values, from their histogram: many times as fast."""
    ends = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64))
    place = (grey.size - 1) * q / 100
    low, high = (int(np.searchsorted(ends, int(at), side="right")) for at in (place, min(place + 1, grey.size - 1)))
    return low + (high - low) * (place - int(place))


def _corners(grey: np.ndarray, side: int) -> list[np.ndarray]:
    return [grey[:side, :side], grey[:side, -side:], grey[-side:, :side], grey[-side:, -side:]]


def _dark_corners(mask: np.ndarray) -> int:
    """In how many corners, of a few pixels each, most is margin: a disc leaves all of them, text may fill one."""
    return sum(float(part.mean()) < 128 for part in _corners(mask, 3))


def _disc(side: int) -> np.ndarray:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _largest(mask: np.ndarray) -> tuple[tuple[int, int, int, int], float] | None:
    """(left, top, width, height) of the largest connected part, and the area of its convex hull."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    outline = max(outlines, key=cv2.contourArea)
    left, top, width, height = cv2.boundingRect(outline)
    return (left, top, width, height), float(cv2.contourArea(cv2.convexHull(outline)))


def _box(place: tuple[int, int, int, int], shape: tuple[int, ...], *, square: bool) -> Box:
    rows, columns = shape
    left, top, wide, tall = place
    return Box(left / columns, top / rows, (left + wide) / columns, (top + tall) / rows, square)
