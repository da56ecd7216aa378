"""Storing an image without encoding it again: metadata go, pixels stay as they are, bit for bit.

JPEG and PNG keep their own bytes, less the segments and chunks that no pixel needs: names, dates, places,
thumbnails, second pictures, colour profiles (no decoder of ours applies them). TIFF, BMP and WebP cannot
stand in a shard and become PNG, 16 bits included.
"""

from __future__ import annotations

import cv2
import numpy as np

from tasks.ingest import jpegfile, pngfile
from tasks.ingest.formats import Header, decode, decode_all
from tasks.ingest.unreadable import UnreadableError

_SMALL = 256  # shorter side in pixels that is enough to hash


def keep_image(data: bytes, header: Header) -> tuple[bytes, str, np.ndarray]:
    """The bytes to store, their extension, and the picture as it is looked at, perhaps decoded smaller.

    An orientation is applied where the file becomes PNG; otherwise it stays as the only tag, so that
    decoders still turn the picture.

    Args:
        data: a whole file.
        header: what `read_header` said of it.

    Raises:
        UnreadableError: it cannot be decoded, or has 32 bits a channel.
    """
    if header.kind == "JPEG":
        factor = jpeg_factor(min(header.width, header.height), _SMALL)
        return jpegfile.without_metadata(data, header.orientation), "jpg", decode(data, header, factor)
    picture = decode(data, header)
    if header.kind == "PNG":
        return pngfile.without_metadata(data, header.orientation), "png", picture
    done, stored = cv2.imencode(".png", decode_all(data, header))
    if not done:
        raise UnreadableError(f"OpenCV cannot store this {header.kind} as PNG")
    return stored.tobytes(), "png", picture


def jpeg_factor(side: float, wanted: float) -> int:
    """How much smaller a JPEG may be decoded (8, 4, 2 or 1) for its `side` to stay at least `wanted` pixels."""
    return next((factor for factor in (8, 4, 2) if side >= factor * wanted), 1)
