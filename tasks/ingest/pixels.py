"""From the bytes of a source file to the bytes that a shard stores.

OpenCV fills what a cut file lacks with grey or black in some formats and says nothing, so files are
checked first: JPEG by walking its markers to the end-of-image marker, PNG by its chunks and their crcs,
everything else by Pillow's strict `load`.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from infra.errors import PermanentError

EXTENSIONS = {"jpeg": "jpg", "png": "png"}
# In entropy-coded data 0xFF is followed by 00 or a restart marker; any other byte begins a real marker.
_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")


class UnreadableError(PermanentError):
    """The file is no whole image; the text says why, without naming it."""


@dataclass(frozen=True)
class Encoded:
    """An image as a shard stores it."""

    data: bytes
    width: int  # of the source in pixels, as it is looked at
    height: int


def reencode(data: bytes, *, size: int, encode: str, quality: int) -> Encoded:
    """Decode, resize by area so that the shorter side is `size` (never enlarge), encode without metadata.

    The EXIF orientation is applied; grey becomes three equal channels; alpha is dropped; 16 bits are
    divided by 256.

    Args:
        data: bytes of a file in any format of `tasks.corpora.base.IMAGE_SUFFIXES`.
        size: shorter side in pixels.
        encode: jpeg or png.
        quality: of JPEG, 1 to 100.

    Raises:
        UnreadableError: no bytes, no image, or not the whole of one.
    """
    width, height, kind = _check(data)
    flags = cv2.IMREAD_COLOR
    if kind == "JPEG":
        # Reduced decoding skips most of the inverse DCT; its result is still no smaller than wanted.
        for factor, reduced in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            if min(width, height) >= factor * size:
                flags = reduced
                break
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableError(f"OpenCV cannot decode it: {error.err}") from None
    if image is None:
        raise UnreadableError(f"OpenCV cannot decode this {kind}")
    if (image.shape[0] > image.shape[1]) != (height > width):
        width, height = height, width
    return Encoded(_encode(_shrink(image, size), encode, quality), width, height)


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    short = min(height, width)
    if short <= size:
        return image
    target = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    return np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA))


def _encode(image: np.ndarray, encode: str, quality: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if encode == "jpeg" else []
    done, data = cv2.imencode(f".{EXTENSIONS[encode]}", image, options)
    if not done:
        raise UnreadableError(f"OpenCV cannot store {image.shape} as {encode}")
    return bytes(data)


def _check(data: bytes) -> tuple[int, int, str]:
    """(width, height, format) of a whole image, before any orientation; UnreadableError otherwise."""
    if not data:
        raise UnreadableError("the file is empty (zero bytes)")
    with warnings.catch_warnings():
        # Odd metadata is no fault of the pixels, and none of it is kept.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                kind = str(image.format)
                if kind not in ("JPEG", "MPO", "PNG"):
                    image.load()
                width, height = image.size
        except Image.DecompressionBombError as error:
            raise UnreadableError(f"too large: {error}") from None
        except Image.UnidentifiedImageError:
            raise UnreadableError("the content is no image, whatever the name says") from None
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
            raise UnreadableError(f"the image is cut off or damaged: {error}") from None
    if kind in ("JPEG", "MPO"):
        kind = "JPEG"
        _check_jpeg(data)
    elif kind == "PNG":
        _check_png(data)
    return width, height, kind


def _check_jpeg(data: bytes) -> None:
    """Walk the markers to the end-of-image marker (ITU-T T.81, annex B); what follows it is ignored."""
    at = 2
    while at + 4 <= len(data):
        code = data[at + 1]
        if data[at] != 0xFF or code == 0xFF:
            # Fill bytes, and the stray bytes between segments that every decoder steps over.
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        if code == 0xD9:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if code == 0xDA:
            found = _MARKER.search(data, at)
            at = found.end() - 2 if found else len(data)
    if at < 0 or data[at : at + 2] != b"\xff\xd9":
        raise UnreadableError("cut-off JPEG: no end-of-image marker")


def _check_png(data: bytes) -> None:
    """Every chunk whole, its crc right, IEND at the end (PNG specification, 5.3)."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        kind = data[at + 4 : at + 8]
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise UnreadableError(f"damaged PNG: crc of chunk {kind!r} at byte {at} is wrong")
        if kind == b"IEND":
            return
        at = end
    raise UnreadableError("cut-off PNG: no IEND chunk")
