"""Brushes the phantom painters share: smooth fields, blobs and strokes on a float32 RGB canvas.

A canvas is [size, size, 3] float32, about 0..1. Positions and radii are relative: x and y run from -0.5 to 0.5 from
the centre, lengths are fractions of the side, so the same drawing exists at every size. Every brush multiplies what
lies below by a tint, so marks take part in the illumination instead of floating above it.
"""

import hashlib
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
Tint = tuple[float, float, float]
Curve = tuple[NDArray[np.float64], float]

SUPERSAMPLED_SIDE = 192
"""Strokes are drawn at no fewer pixels than this a side, then averaged down: hairlines stay thin on small images."""

_SUBPIXEL_BITS = 5


def generator(*parts: int | str) -> np.random.Generator:
    """A random generator that depends on `parts` alone, on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


@lru_cache(maxsize=4)
def axes(size: int) -> tuple[Canvas, Canvas]:
    """Relative coordinates of the pixel centres: x [1, size] and y [size, 1], float32, read-only."""
    line = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    line.setflags(write=False)
    return line[None, :], line[:, None]


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> Canvas:
    """Smooth noise [size, size] float32, mean near 0 and deviation near 1, with about `cells` bumps a side."""
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    # Oversized, then cropped: the border of a cubic resize is flat and would show as a frame.
    wide = max(size, round(size * (cells + 3) / cells))
    start = (wide - size) // 2
    return np.ascontiguousarray(
        cv2.resize(coarse, (wide, wide), interpolation=cv2.INTER_CUBIC)[start : start + size, start : start + size]
    )


def tint(canvas: Canvas, mask: Canvas, colour: Tint) -> None:
    """Multiply `canvas` in place by `colour` where `mask` [H, W] is 1, by nothing where it is 0, between in between."""
    for channel in range(3):
        canvas[..., channel] *= 1 + mask * np.float32(colour[channel] - 1)


def blob(
    canvas: Canvas,
    at: tuple[float, float],
    radius: float,
    colour: Tint,
    *,
    strength: float = 1.0,
    edge: float = 0.25,
    stretch: float = 1.0,
    angle: float = 0.0,
    wobble: tuple[float, int, float] = (0.0, 3, 0.0),
) -> None:
    """Tint a filled spot of `radius` around `at`, in place.

    `edge` is the width of its border in radii, `stretch` lengthens it along `angle` (radians) at equal area, `wobble`
    is (amplitude in radii, lobes, phase) of an irregular outline.
    """
    size = canvas.shape[0]
    reach = radius * max(stretch, 1.0) * (1 + wobble[0] + 3 * edge) + 1.5 / size
    window = _window(size, at, reach)
    if window is None:
        return
    rows, columns = window
    x, y = axes(size)
    dx, dy = x[:, columns] - np.float32(at[0]), y[rows] - np.float32(at[1])
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / np.sqrt(stretch)
    across = (dy * np.cos(angle) - dx * np.sin(angle)) * np.sqrt(stretch)
    distance = np.sqrt(along**2 + across**2)
    outline = radius
    if wobble[0]:
        outline = radius * (1 + wobble[0] * np.sin(wobble[1] * np.arctan2(across, along) + wobble[2]))
    # No border is narrower than a pixel, so a spot below a pixel fades instead of flickering in and out.
    soft = max(edge * radius, 0.5 / size)
    mask = np.float32(strength) * np.clip((outline - distance) / soft * 0.5 + 0.5, 0, 1)
    tint(canvas[rows, columns], mask.astype(np.float32), colour)


def haze(canvas: Canvas, at: tuple[float, float], sigma: float, colour: Tint, *, strength: float = 1.0) -> None:
    """Tint a Gaussian patch of deviation `sigma` around `at`, in place: a mark without any edge."""
    size = canvas.shape[0]
    window = _window(size, at, 3 * sigma)
    if window is None:
        return
    rows, columns = window
    x, y = axes(size)
    fall_x = np.exp(-0.5 * ((x[:, columns] - np.float32(at[0])) / sigma) ** 2)
    fall_y = np.exp(-0.5 * ((y[rows] - np.float32(at[1])) / sigma) ** 2)
    tint(canvas[rows, columns], (np.float32(strength) * fall_x * fall_y).astype(np.float32), colour)


def strokes(size: int, curves: list[Curve]) -> Canvas:
    """Coverage [size, size] float32 in 0..1 of curves, each (points [n, 2] of x and y, width)."""
    scale = max(1, -(-SUPERSAMPLED_SIDE // size))
    side = size * scale
    mask = np.zeros((side, side), np.uint8)
    for points, width in curves:
        pixels = (points + 0.5) * side
        fixed = np.round(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        thick = width * side
        # Below one pixel the line keeps one pixel and loses ink.
        ink = round(255 * min(1.0, thick))
        cv2.polylines(mask, [fixed], False, (ink,), max(1, round(thick)), cv2.LINE_AA, _SUBPIXEL_BITS)
    if scale > 1:
        mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / np.float32(255)


def to_photograph(canvas: Canvas, rng: np.random.Generator, *, noise: float, blur: float) -> NDArray[np.uint8]:
    """Canvas -> uint8 RGB [size, size, 3]: lens blur (deviation as a fraction of the side), sensor noise, clipping."""
    size = canvas.shape[0]
    if blur * size > 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur * size)
    grain = rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(noise)
    return np.clip((canvas + grain) * 255 + 0.5, 0, 255).astype(np.uint8)


def _window(size: int, at: tuple[float, float], reach: float) -> tuple[slice, slice] | None:
    left, right = int((at[0] - reach + 0.5) * size), int((at[0] + reach + 0.5) * size) + 2
    top, bottom = int((at[1] - reach + 0.5) * size), int((at[1] + reach + 0.5) * size) + 2
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, size), min(bottom, size)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None
