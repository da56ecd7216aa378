"""Rendering views: one reduction, one affine warp, one affine map of colours, listed transforms (DESIGN: View).

The view is rendered at the recipe's side S, and each model resizes it to its own side, so that teacher and
student get the same crop. It uses OpenCV directly: a view must be replayed from its draw alone, and a
single warp resamples once where a chain of augmentations would blur several times.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from models.augmentation.draws import Draw, Mixture, ViewRecipe
from models.augmentation.plain_view import decode, plain_view, resize, to_input
from models.augmentation.transforms import transform

__all__ = ["decode", "mix", "render", "resize", "to_input"]

# ITU-R BT.601 luma, the grey that contrast and saturation turn around.
_LUMA = np.array([0.299, 0.587, 0.114])
# NTSC YIQ: rows are I and Q; a turn of the hue is a rotation in their plane (FCC, 1953).
_CHROMA = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])

# Pixels of the window that are left for one of the view, at least and below twice that where there is more than one
# block. Averaging right down to the view's scale and then interpolating would blur.
_REST = 1.25

# A box as wide as a pixel of the view has variance (scale^2 - 1) / 12 beyond a pixel's own; a Gaussian lets more
# through, and twice that aliases no more than an exact area reduction, at a third of its time, and keeps more detail.
_LEAST_SIGMA = 0.2  # of the Gaussian in pixels: below, its outer taps are nothing
_WIDE_SIGMA = 0.7  # from here on, five taps


def render(image: np.ndarray, recipe: ViewRecipe, draw: Draw) -> np.ndarray:
    """The view of an image.

    Args:
        image: RGB uint8 [H, W, 3].
        recipe: only its side S and its transforms are used; everything else is in the draw.
        draw: from `models.augmentation.draws.draw`.

    Returns:
        RGB uint8 [S, S, 3]. The plain view is the largest centred square, area-averaged (bilinear where it
        grows). A random view is cropped, mirrored and rotated; outside the image, the image is reflected. The
        recipe's transforms come last.

    Raises:
        ValueError: the image is not uint8 [H, W, 3].
        RuntimeError: a transform fails, see `models.augmentation.transforms.transform`.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"a view needs a uint8 [H, W, 3] image, got {image.dtype} {list(image.shape)}")
    if draw.plain:
        return plain_view(image, recipe.size)
    view = _recolour(_warp(image, recipe.size, draw), draw)
    return transform(view, recipe.transforms, draw.seed) if recipe.transforms else view


def mix(own: np.ndarray, other: np.ndarray, mixture: Mixture) -> np.ndarray:
    """A view mixed with its partner's.

    Args:
        own, other: RGB uint8 [S, S, 3], rendered.
        mixture: from `models.augmentation.draws.mixture`, drawn for this S.

    Returns:
        RGB uint8 [S, S, 3]: share * own + (1 - share) * other rounded half to even (mixup), or own with other's box.
    """
    if mixture.box is None:
        # Exact, so the same on every CPU: shares are steps of 2^-16, which fit float32 beside the 8 bits of a pixel.
        return np.asarray(cv2.addWeighted(own, mixture.share, other, 1 - mixture.share, 0))
    left, top, right, bottom = mixture.box
    mixed = own.copy()
    mixed[top:bottom, left:right] = other[top:bottom, left:right]
    return mixed


def _warp(image: np.ndarray, side: int, draw: Draw) -> np.ndarray:
    height, width = image.shape[:2]
    base = min(height, width)
    crop_w = base * math.sqrt(draw.area * draw.ratio)
    crop_h = base * math.sqrt(draw.area / draw.ratio)
    # A crop wider or higher than the image is scaled down as a whole, so that its ratio is kept.
    fit = min(1.0, width / crop_w, height / crop_h)
    crop_w, crop_h = crop_w * fit, crop_h * fit
    centre = np.array([draw.x * (width - crop_w) + crop_w / 2, draw.y * (height - crop_h) + crop_h / 2])
    turn = math.radians(draw.angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    mirror = np.diag([-1.0 if draw.flip_x else 1.0, -1.0 if draw.flip_y else 1.0])
    # Centred unit square of the view -> pixels of the image.
    spread = rotation @ np.diag([crop_w, crop_h]) @ mirror

    # Bilinear sampling aliases when it shrinks: average whole blocks of pixels, which is cheap where any other area
    # reduction is not, and smooth what is still finer than the view.
    scale = min(crop_w, crop_h) / side
    block = max(1, int(scale / _REST))
    reach = np.abs(spread) @ np.array([0.5, 0.5]) + 3 * block + 1  # the kernel's two pixels, and the interpolation's
    low = np.maximum(np.floor(centre - reach).astype(int), 0) // block * block
    whole = np.array([width, height]) // block * block  # fewer than `block` pixels at the border belong to no block
    high = np.minimum(-(-np.ceil(centre + reach).astype(int) // block) * block, whole)
    window = image[low[1] : high[1], low[0] : high[0]]
    if block > 1:
        extent = (high - low) // block
        window = cv2.resize(window, (int(extent[0]), int(extent[1])), interpolation=cv2.INTER_AREA)
    window = _smooth(window, scale / block)

    # Pixel centres lie at half integers: view index -> unit square -> image -> reduced window index.
    linear = spread / (side * block)
    offset = (centre - low) / block - 0.5 - linear @ np.full(2, (side - 1) / 2)
    return np.asarray(
        cv2.warpAffine(
            window,
            np.column_stack([linear, offset]),
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def _smooth(window: np.ndarray, scale: float) -> np.ndarray:
    """Remove what is finer than a view that shows `scale` pixels of the window as one; unchanged where it grows."""
    sigma = math.sqrt(max(0.0, scale * scale - 1) / 6)
    if sigma < _LEAST_SIGMA:
        return window
    taps = 3 if sigma < _WIDE_SIGMA else 5
    return np.asarray(cv2.GaussianBlur(window, (taps, taps), sigma, borderType=cv2.BORDER_REFLECT_101))


def _recolour(view: np.ndarray, draw: Draw) -> np.ndarray:
    # Brightness scales, contrast turns around the view's mean grey, saturation and hue keep grey: together
    # one affine map of RGB, rounded and clipped once.
    colour = np.eye(3)
    if draw.hue:
        turn = 2 * math.pi * draw.hue
        plane = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        yiq = np.vstack([_LUMA, _CHROMA])
        yiq[1:] -= yiq[1:].mean(axis=1, keepdims=True)  # so that grey has exactly no chroma
        rotated = np.eye(3)
        rotated[1:, 1:] = plane
        colour = np.linalg.solve(yiq, rotated @ yiq)
    colour = draw.saturation * colour + (1 - draw.saturation) * np.tile(_LUMA, (3, 1))
    # Sums of bytes are exact in OpenCV too, and numpy is 200 times slower on an innermost axis of three.
    grey = draw.brightness * float(_LUMA @ np.array(cv2.sumElems(view)[:3])) / view[..., 0].size
    shift = np.full(3, (1 - draw.contrast) * grey)
    matrix = np.column_stack([draw.brightness * draw.contrast * colour, shift])
    return np.asarray(cv2.transform(view, matrix.astype(np.float32)))
