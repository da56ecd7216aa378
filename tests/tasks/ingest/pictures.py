"""Pictures and the bytes of their files, made by code."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tasks.ingest.pixels import ImageRecipe

PLAIN = ImageRecipe(size=512, encode="png", quality=92, crop="none", max_pixels=10_000_000)
KEEP = ImageRecipe(size=None, encode="keep", quality=92, crop="none", max_pixels=10_000_000)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A soft picture, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def noisy(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture whose JPEG has data in every block, uint8 [H, W, 3]."""
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    return np.clip(smooth(height, width, seed) + noise, 0, 255).astype(np.uint8)


def packed(pixels: np.ndarray, suffix: str = ".png", options: list[int] | None = None) -> bytes:
    """Pixels in OpenCV's order as a file."""
    done, data = cv2.imencode(suffix, pixels, options or [])
    assert done
    return data.tobytes()


def saved(image: Image.Image, kind: str, **rest: Any) -> bytes:
    """A Pillow image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **rest)
    return buffer.getvalue()


def unpacked(data: bytes) -> np.ndarray:
    """Pixels of a file, RGB uint8 [H, W, 3], as Pillow decodes it, strictly."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def tagged(orientation: int) -> Image.Exif:
    """Metadata with an orientation and a name."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "JANE DOE 1950-01-01"
    return exif


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A PNG chunk with its crc."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(width: int, height: int, data: bytes, *, colour: int = 2, depth: int = 8, extra: bytes = b"") -> bytes:
    """A PNG file of one IDAT chunk."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def segment(code: int, payload: bytes) -> bytes:
    """A JPEG segment."""
    return bytes([0xFF, code]) + (len(payload) + 2).to_bytes(2, "big") + payload
