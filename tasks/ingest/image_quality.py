"""How good a picture is, as far as pixels say it: field of view, sharpness, exposure, and one score of the three.

Everything is measured on grey copies of a fixed size, so that pictures of one kind compare whatever their cameras'
resolutions, and with whole numbers as far as that goes, so that machines agree. A score ranks pictures of one corpus
and finds those that are blurred, too dark, overexposed or cut off; it is no medical judgement of what can be graded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

MEASURES = ("field", "disc", "sharpness", "clipped", "level")
"""What is measured of each picture, in this order."""

_SIDE = 256  # shorter side in pixels of the copy on which sharpness and exposure are measured
_COARSE = 4  # the field is looked for on a copy that is as many times smaller
_BLACK = 12  # level up to which what touches the frame's edge is border, no picture
_DARK, _BRIGHT = 5, 250  # levels beyond which a pixel is clipped


@dataclass(frozen=True)
class _Rule:
    """How the measures of one kind of image become a score."""

    fine: float  # sharpness of half a mark; the lowest tenth of real images has about as much
    level: float  # mean level of the best exposed
    width: float  # of the logarithm of level over that level, at which a mark falls to 1/e
    field: str  # measure that says how much of the field of view is there; "" where none does
    whole: float = 1.0  # of that measure: nothing is missing


# From real subsets as they are stored: 1,098 endoscopy frames, 723 chest x-rays, 380 fundus photographs.
_RULES = {
    "fundus": _Rule(fine=0.01, level=115, width=0.8, field="disc"),
    "endoscopy": _Rule(fine=0.012, level=110, width=0.8, field="field", whole=0.6),
    "xray": _Rule(fine=0.003, level=145, width=0.8, field=""),
}
_OTHER = _Rule(fine=0.01, level=120, width=1.0, field="")


def measured(grey: np.ndarray) -> tuple[float, ...]:
    """The values of MEASURES of a picture.

    field      share of the frame that is no black border: dark and joined to the frame's edge
    disc       share of the smallest circle around the field that the field fills: 1 of a whole fundus photograph
    sharpness  variance of the Laplacian inside the field, over the square of the mean level (Pech-Pacheco et al.,
               "Diatom autofocusing in brightfield microscopy", ICPR 2000; of 36 measures among the best in
               Pertuz et al., "Analysis of focus measure operators for shape-from-focus", Pattern Recognition 2013)
    clipped    share of the field that is as good as black or white
    level      mean grey level of the field, 0 to 255

    Args:
        grey: uint8 [H, W], the picture or a smaller copy whose shorter side has 256 pixels or more.
    """
    copy = _at_fixed_size(grey)
    field = _field(copy)
    share = float(cv2.countNonZero(field)) / field.size
    if not share:
        return (0.0, 0.0, 0.0, 1.0, float(copy.mean()))
    disc = _disc(field)
    # The border's own edge is no sign of sharpness.
    inner = cv2.erode(field, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=255)
    inside = inner if cv2.countNonZero(inner) else field
    inside = cv2.resize(inside, copy.shape[::-1], interpolation=cv2.INTER_NEAREST)
    counts = cv2.calcHist([copy], [0], inside, [256], [0, 256]).ravel().astype(np.int64)
    total = int(counts.sum())
    level = float(counts @ np.arange(256)) / total
    clipped = float(counts[: _DARK + 1].sum() + counts[_BRIGHT:].sum()) / total
    second = cv2.Laplacian(copy, cv2.CV_16S)
    variance = cv2.norm(second, cv2.NORM_L2SQR, mask=inside) / total - cv2.mean(second, mask=inside)[0] ** 2
    return (share, disc, variance / max(level, 1.0) ** 2, clipped, level)


def halved(grey: np.ndarray, below: int) -> np.ndarray:
    """A copy [h, w] whose shorter side is less than `below` pixels, by halving: exact, and fast."""
    while min(grey.shape) >= below:
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    return grey


def _at_fixed_size(grey: np.ndarray) -> np.ndarray:
    copy = halved(grey, 2 * _SIDE)
    height, width = copy.shape
    if min(height, width) == _SIDE:
        return copy
    scale = _SIDE / min(height, width)
    size = (max(_SIDE, round(width * scale)), max(_SIDE, round(height * scale)))
    return np.asarray(cv2.resize(copy, size, interpolation=cv2.INTER_LINEAR_EXACT))


def _field(copy: np.ndarray) -> np.ndarray:
    """Mask (0 or 255) of the field of view, _COARSE times smaller than the copy."""
    small = copy[_COARSE // 2 :: _COARSE, _COARSE // 2 :: _COARSE]
    mask = cv2.copyMakeBorder((small > _BLACK).astype(np.uint8) * 255, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    border = mask.copy()
    cv2.floodFill(border, None, (0, 0), 128)
    field = np.where(border == 128, 0, 255).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(field, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))[1:-1, 1:-1])


def _disc(field: np.ndarray) -> float:
    outlines, _ = cv2.findContours(field, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = max(outlines, key=cv2.contourArea)
    _, radius = cv2.minEnclosingCircle(outline)
    # Outlines go through the middle of pixels.
    return min(1.0, float(cv2.countNonZero(field)) / (np.pi * (radius + 0.5) ** 2))


def scores(measures: np.ndarray, modality: str) -> np.ndarray:
    """float32 [N], 0 to 1: the cube root of three marks' product, so that one that is 0 counts for all.

    field of view  of fundus photographs `disc`; of endoscopy `field`, of which 0.6 of the frame is the whole; else 1
    sharpness      s / (s + s0), which always rises
    exposure       (1 - clipped)^2 exp(-(ln(level / level0) / width)^2)

    Rounded to three digits, so that they repeat on every machine.

    Args:
        measures: float [N, len(MEASURES)]; NaN where nothing was measured, as is the score.
        modality: fundus, endoscopy, xray or other.
    """
    rule = _RULES.get(modality, _OTHER)
    by: Mapping[str, np.ndarray] = dict(zip(MEASURES, np.asarray(measures, float).T, strict=True))
    field = np.minimum(1.0, by[rule.field] / rule.whole) if rule.field else 1.0
    sharp = by["sharpness"] / (by["sharpness"] + rule.fine)
    exposed = (1 - by["clipped"]) ** 2 * np.exp(-((np.log(np.maximum(by["level"], 1) / rule.level) / rule.width) ** 2))
    found = np.round(np.cbrt(field * sharp * exposed), 3).astype(np.float32)
    # Of the bit patterns that are no number, one: tables are compared by their bytes.
    return np.where(np.isnan(found), np.float32(np.nan), found)
