"""From the bytes of a source file to the bytes that a shard stores, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from tasks.ingest.dicom_attributes import attributes_of
from tasks.ingest.image_quality import measured
from tasks.ingest.near_duplicates import perceptual_hash
from tasks.ingest.overlays import has_overlay
from tasks.preprocessing.formats import DEEP, bits_in_use, read_header
from tasks.preprocessing.stored_image import (
    EXTENSIONS,
    ImageRecipe,
    jpeg_factor,
    store_image,
    store_unchanged,
    stored_pixels,
)
from tasks.preprocessing.unreadable import UnreadableError

__all__ = [
    "EXTENSIONS",
    "EncodedImage",
    "ImageRecipe",
    "UnreadableError",
    "encode_image",
    "hash_image",
    "jpeg_factor",
    "store_unchanged",
]


@dataclass(frozen=True)
class EncodedImage:
    """An image as a shard stores it."""

    data: bytes
    ext: str  # jpg or png
    width: int  # of the source in pixels, as it is looked at
    height: int
    phash: bytes  # of what is stored; `tasks.ingest.near_duplicates.BYTES` bytes
    cropped: bool  # a part of the frame was found and cut out
    bits: int = 0  # that its 16-bit samples need; 0 where they have 8 bits
    several: bool = False  # the source has more pages or frames, which are left out
    attributes: Mapping[str, str] = field(default_factory=dict)  # that a DICOM header tells, by name
    measures: tuple[float, ...] = ()  # of what is stored; `tasks.ingest.image_quality.MEASURES`
    overlay: bool | None = None  # likely text or an inset box; None where the picture was not decoded at full size


def encode_image(data: bytes, recipe: ImageRecipe) -> EncodedImage:
    """Decode, mask, crop, resize by area so that the shorter side is `size` (never enlarge), encode without metadata.

    The EXIF orientation is applied; grey becomes three equal channels; alpha is dropped; of deep samples the
    highest 8 of the bits in use stay; of several pages the first counts. `keep` stores the source's own pixels instead.

    Args:
        data: bytes of a file in any format of `tasks.sources.passed_over.IMAGE_SUFFIXES`.

    Raises:
        UnreadableError: no bytes, no image, not the whole of one, or more pixels than `max_pixels`.
    """
    header = read_header(data, recipe.max_pixels)
    width, height = header.looked_at
    stored = store_image(data, header, recipe)
    found = EncodedImage(
        stored.data,
        stored.ext,
        width,
        height,
        perceptual_hash(stored.pixels),
        stored.cropped,
        bits_in_use(data, header) if header.deep and header.bits is None else 0,
        header.several,
        attributes_of(data) if header.kind == "DICOM" else {},
    )
    # A file that is kept may have been decoded smaller, too small to find letters.
    whole = recipe.encode != "keep" or min(stored.pixels.shape[:2]) >= min(width, height)
    return _looked_at(found, stored.pixels, recipe, whole=whole)


def _looked_at(found: EncodedImage, image: np.ndarray, recipe: ImageRecipe, *, whole: bool) -> EncodedImage:
    """With what the picture shows of its quality and, where it is `whole`, of overlays."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return replace(found, measures=measured(grey), overlay=has_overlay(grey, recipe.mask) if whole else None)


def hash_image(data: bytes, recipe: ImageRecipe) -> bytes:
    """The perceptual hash that `encode_image` takes, without encoding: of the very picture that is stored.

    It costs nearly what storing the image does, as decoding is most of both. A smaller picture would be hashed in half
    the time, but its hash is another: of real frames and photographs hashed at 256 pixels instead of 512, 5 or 6 bits
    differ in the median and up to 18, where copies of photographs may differ by 20 in all.
    Deep samples whose bits in use are not known yet are scaled by their own, as contrast is local in the hash.

    Raises:
        UnreadableError: as `encode_image`.
    """
    header = read_header(data, recipe.max_pixels)
    if header.deep and header.bits is None and recipe.bits == DEEP:
        recipe = replace(recipe, bits=bits_in_use(data, header))
    return perceptual_hash(stored_pixels(data, header, recipe))
