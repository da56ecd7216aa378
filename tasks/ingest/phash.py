"""A perceptual hash: near copies of a picture have hashes that differ in few bits.

The picture's coarse structure is its lowest cosine frequencies (pHash: Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010); a bit says whether a coefficient is above the
median. Pictures of one kind share more coarse structure than they differ in - the disc of a fundus camera,
its vignette - so the frame's rim is left out and the rest divided by its local contrast first: without
that, photographs of different patients are as near to each other as copies of one are.
"""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 64  # of the grey copy, in pixels
_RIM = 0.05  # of each side, left out
_AROUND = 17  # pixels of the copy a side over which contrast is local
_DARK = 4  # levels of contrast below which structure counts less, as it is mostly noise
_MOST = 128  # of the contrast, in 64ths of the local mean
_WAVES = 16  # lowest frequencies a direction
BYTES = _WAVES * _WAVES // 8

LIMITS = {"fundus": 20, "xray": 20, "endoscopy": 40}
"""Bits that hashes of near copies differ in at most; `OTHER_LIMIT` for other modalities.

Measured on real subsets: of copies (JPEG quality 50, half size, 10 % brighter, 15 % darker) 97 % or more are within
20 bits; no two photographs or x-rays of different patients are within 41 or 61, no two endoscopy frames of
unlike classes within 73. Frames of one video are up to 40 and more apart.
"""
OTHER_LIMIT = 16

_angles = np.pi / (2 * _SIDE) * np.outer(np.arange(_WAVES), 2 * np.arange(_SIDE) + 1)
_BASIS = np.rint(1024 * np.cos(_angles))


def perceptual_hash(image: np.ndarray) -> bytes:
    """256 bits of a picture; its shape does not count, it is squeezed to a square first.

    After the area resize all numbers are integers below 2^53, so that machines agree on every bit.

    Args:
        image: BGR uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    top, left = int(_RIM * height), int(_RIM * width)
    grey = cv2.cvtColor(image[top : height - top, left : width - left], cv2.COLOR_BGR2GRAY)
    # Halving by whole pixels is a tenth of the work of the area resize by a fraction.
    while min(grey.shape) >= 4 * _SIDE:
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    detail = _AROUND**2 * small.astype(np.int32) - _sums(small)
    contrast = _sums(np.abs(detail)) + _DARK * _AROUND**4
    even = np.clip(64 * _AROUND**2 * detail // contrast, -_MOST, _MOST).astype(np.float64)
    waves = (_BASIS @ even @ _BASIS.T).ravel()
    # The mean says nothing once contrast is local; its bit is always 0.
    waves[0] = 0
    return np.packbits(waves > np.median(waves[1:])).tobytes()


def _sums(values: np.ndarray) -> np.ndarray:
    """Sum of the square around each value, int32."""
    return np.asarray(cv2.boxFilter(values, cv2.CV_32S, (_AROUND, _AROUND), normalize=False))
