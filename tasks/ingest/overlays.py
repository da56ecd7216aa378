"""Whether a picture has an overlay: likely text that is burned in, or a box set into a corner of the frame.

Text is looked for as a row of small marks of equal height that stand out from what is around them, in the outer parts
of the frame; what it says is not read. A box is a uniform rectangle in a corner of the frame with two straight edges.
Single letters, such as the side markers of x-rays, are too little to tell from anatomy.

Of 96 real Hyper-Kvasir frames, cropped as by default and looked at by eye, all have one or both, and 88 are found;
other rules were tried on these frames too, so that others may be found less often. In 380 fundus photographs none is.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tasks.ingest.image_quality import halved
from tasks.preprocessing.frame_mask import Polygon, paint

_BELOW = 800  # pixels of the shorter side of the copy that is looked at
_ZONE = 0.3  # of each side: how far from the frame's edge text is looked for
_STROKE = 9  # pixels: strokes are thinner
_CONTRAST = 45  # levels that strokes are brighter or darker than what is around them
_LOW, _HIGH = 5, 22  # height of a mark in pixels
_WIDE = 1.6  # most of a mark's width, in heights
_APART = 1.2  # most of the gap between two marks of a row, in heights
_MARKS = 4  # of a row that is text
_CORNER_SIDE = 128  # of the square copy on which boxes are looked for
_CORNER_LEAST, _CORNER_MOST = 0.12, 0.6  # of the frame's width and height
_STEP = 10  # levels
_STRAIGHT = 0.8  # of both edges of a box that are a step
_UNIFORM, _EVEN = 8, 0.9  # levels around the median that as much of a box is within


def has_overlay(grey: np.ndarray, mask: Sequence[Polygon] = ()) -> bool:
    """Whether there is likely text or an inset box.

    Args:
        grey: uint8 [H, W], the picture at full size.
        mask: parts that were painted; a box in a corner that they cover is the mask's own.
    """
    return has_box(grey, mask) or has_text(grey)


def has_text(grey: np.ndarray) -> bool:
    """Whether bright or dark marks stand in a row as letters do."""
    copy = halved(grey, _BELOW)
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    return any(_has_row(cv2.morphologyEx(copy, kind, kernel)) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))


def _has_row(stands_out: np.ndarray) -> bool:
    height, width = stands_out.shape
    _, mask = cv2.threshold(stands_out, _CONTRAST, 255, cv2.THRESH_BINARY)
    top, left = round(_ZONE * height), round(_ZONE * width)
    mask[top : height - top, left : width - left] = 0
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    marks = np.array([cv2.boundingRect(outline) for outline in outlines if len(outline) > 1], np.int64).reshape(-1, 4)
    marks = marks[(marks[:, 3] >= _LOW) & (marks[:, 3] <= _HIGH) & (marks[:, 2] <= _WIDE * marks[:, 3])]
    if len(marks) < _MARKS:
        return False
    left_of, right_of = _neighbours(marks)
    # Marks with k others after them in their row, for k = 1, 2, ...
    more = np.ones(len(marks), bool)
    for _ in range(_MARKS - 1):
        on = more[right_of]
        more = np.zeros(len(marks), bool)
        more[left_of[on]] = True
    return bool(more.any())


def _neighbours(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of marks (left, right) that may follow each other in a row: same top, same foot, little gap."""
    order = np.argsort(marks[:, 1], kind="stable")
    left, top, wide, tall = marks[order].T
    foot = top + tall
    # Rows of marks sorted by their tops: those that are at most 1 lower follow directly.
    ends = np.searchsorted(top, top + 1, side="right")
    counts = ends - np.arange(len(order)) - 1
    first = np.repeat(np.arange(len(order)), counts)
    second = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts) + first + 1
    one = np.where(left[first] <= left[second], first, second)
    two = np.where(left[first] <= left[second], second, first)
    gap = left[two] - left[one] - wide[one]
    near = (gap >= -1) & (gap <= _APART * np.maximum(tall[one], tall[two])) & (np.abs(foot[one] - foot[two]) <= 1)
    return order[one[near]], order[two[near]]


def has_box(grey: np.ndarray, mask: Sequence[Polygon] = ()) -> bool:
    """Whether a corner that the mask does not paint holds a uniform rectangle with two straight edges."""
    side, least = _CORNER_SIDE, round(_CORNER_LEAST * _CORNER_SIDE)
    # Sampled, not averaged, so that edges stay sharp.
    copy = cv2.resize(grey, (side, side), interpolation=cv2.INTER_NEAREST)
    corners = _turned(copy)
    if mask:
        free = _turned(paint(np.full((side, side, 3), 255, np.uint8), mask)[..., 0])
        corners = tuple(part for part, own in zip(corners, free, strict=True) if own[:least, :least].mean() > 127)
    return any(map(_in_first_corner, corners))


def _turned(copy: np.ndarray) -> tuple[np.ndarray, ...]:
    """The copy so that each of its corners is the first."""
    return copy, copy[:, ::-1], copy[::-1], copy[::-1, ::-1]


def _in_first_corner(copy: np.ndarray) -> bool:
    """Whether the box is in the upper left corner."""
    least, most = (round(share * _CORNER_SIDE) for share in (_CORNER_LEAST, _CORNER_MOST))
    corner = copy[:least, :least].astype(np.int16)
    middle = int(np.median(corner))
    if np.count_nonzero(np.abs(corner - middle) <= _UNIFORM) < _EVEN * corner.size:
        return False
    even = np.abs(copy[: most + 1, : most + 1].astype(np.int16) - middle) <= _UNIFORM
    part = copy[: most + 2, : most + 2].astype(np.int16)
    number = np.arange(1, most + 2, dtype=np.float32)
    # Between one pixel and the next but one, as an edge may lie between two.
    down = np.abs(part[:, 2:] - part[:, :-2])[: most + 1] > _STEP
    across = np.abs(part[2:] - part[:-2])[:, : most + 1] > _STEP
    upright = np.cumsum(down, axis=0) / number[:, None]  # [h, w]: share of the edge right of column w, above row h
    level = np.cumsum(across, axis=1) / number
    edges = np.minimum(upright[:most, :most], level[:most, :most])
    rows, columns = np.nonzero(edges[least:, least:] >= _STRAIGHT)
    if not len(rows):
        return False
    inside = np.cumsum(np.cumsum(even, axis=0), axis=1)[least:most, least:most][rows, columns]
    return bool((inside >= _EVEN * (rows + least + 1) * (columns + least + 1)).any())
