"""From the bytes of a source file to the bytes that a shard stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np

from tasks.ingest import jpegfile, pngfile
from tasks.ingest.crop import FINDERS
from tasks.ingest.dicomfile import attributes_of, is_burned_in
from tasks.ingest.formats import DEEP, Header, bits_in_use, decode, decode_all, read_header
from tasks.ingest.frame_mask import Polygon, paint
from tasks.ingest.near_duplicates import perceptual_hash
from tasks.ingest.unreadable import UnreadableError

EXTENSIONS = {"jpeg": "jpg", "png": "png"}
_SMALL = 256  # shorter side in pixels that is enough to hash


@dataclass(frozen=True)
class ImageRecipe:
    """What becomes of every image of a corpus."""

    size: int | None  # shorter side in pixels; None: as large as it is
    encode: Literal["jpeg", "png", "keep"]  # keep: the file's own bytes less its metadata; size and crop do not count
    quality: int  # of JPEG, 1 to 100
    crop: Literal["none", "fundus", "endoscopy"]
    max_pixels: int  # of the source; a file that announces more is never decoded
    bits: int = DEEP  # in use, of 16-bit samples
    mask: Sequence[Polygon] = ()  # painted black in the whole frame


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
    bits = bits_in_use(data, header) if header.deep and header.bits is None else 0
    attributes = _of_dicom(data, recipe) if header.kind == "DICOM" else {}
    if recipe.encode == "keep":
        stored, ext, image = store_unchanged(data, header, recipe.bits)
        return EncodedImage(stored, ext, width, height, perceptual_hash(image), False, bits, header.several)
    image, cropped = _picture(data, header, recipe)
    image = _shrink(image, recipe.size)
    stored, ext = _encode(image, recipe), EXTENSIONS[recipe.encode]
    return EncodedImage(stored, ext, width, height, perceptual_hash(image), cropped, bits, header.several, attributes)


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
    if header.kind == "DICOM":
        _of_dicom(data, recipe)
    if header.deep and header.bits is None and recipe.bits == DEEP:
        recipe = replace(recipe, bits=bits_in_use(data, header))
    if recipe.encode == "keep":
        return perceptual_hash(store_unchanged(data, header, recipe.bits)[2])
    return perceptual_hash(_shrink(_picture(data, header, recipe)[0], recipe.size))


def _of_dicom(data: bytes, recipe: ImageRecipe) -> dict[str, str]:
    """Attributes of a DICOM that may be stored as the recipe says.

    Raises:
        UnreadableError: it may not.
    """
    if recipe.encode == "keep":
        raise UnreadableError("the DICOM cannot be kept as it is, as its header names the patient; use encode: png")
    if is_burned_in(data) and not recipe.mask:
        raise UnreadableError("the DICOM says that text is burned into its pixels; set ingest.mask, or take it out")
    return attributes_of(data)


def store_unchanged(data: bytes, header: Header, bits: int = DEEP) -> tuple[bytes, str, np.ndarray]:
    """The bytes to store, their extension, and the picture as it is looked at, perhaps decoded smaller.

    An orientation is applied where the file becomes PNG; otherwise it stays as the only tag, so that
    decoders still turn the picture.

    Args:
        data: a whole file.
        header: what `read_header` said of it.
        bits: in use, of deep samples of a file that does not say so; they are stored so that they fill 16.

    Raises:
        UnreadableError: it cannot be decoded, or has 32 bits a channel.
    """
    if header.kind == "JPEG":
        factor = jpeg_factor(min(header.width, header.height), _SMALL)
        return jpegfile.without_metadata(data, header.orientation), "jpg", decode(data, header, factor)
    picture = decode(data, header, bits=bits)
    if header.kind == "PNG" and not (header.deep and (header.bits or bits) < DEEP):
        return pngfile.without_metadata(data, header.orientation), "png", picture
    done, stored = cv2.imencode(".png", decode_all(data, header, bits))
    if not done:
        raise UnreadableError(f"OpenCV cannot store this {header.kind} as PNG")
    return stored.tobytes(), "png", picture


def jpeg_factor(side: float, wanted: float) -> int:
    """How much smaller a JPEG may be decoded (8, 4, 2 or 1) for its `side` to stay at least `wanted` pixels."""
    return next((factor for factor in (8, 4, 2) if side >= factor * wanted), 1)


def _picture(data: bytes, header: Header, recipe: ImageRecipe) -> tuple[np.ndarray, bool]:
    """The picture, cropped, decoded no larger than the size needs; whether a crop was found."""
    width, height = header.looked_at
    wanted = recipe.size if header.kind == "JPEG" else None
    factor = jpeg_factor(min(width, height), wanted) if wanted else 1
    image = decode(data, header, factor, recipe.bits)
    if recipe.mask:
        return paint(image, recipe.mask), False
    box = FINDERS[recipe.crop](image) if recipe.crop != "none" else None
    if box is None:
        return image, False
    if wanted and (larger := jpeg_factor(box.side(width, height), wanted)) < factor:
        image = decode(data, header, larger, recipe.bits)
    return box.cut(image), True


def _shrink(image: np.ndarray, size: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    short = min(height, width)
    if size is None or short <= size:
        return image
    target = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    return np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA))


def _encode(image: np.ndarray, recipe: ImageRecipe) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality] if recipe.encode == "jpeg" else []
    done, data = cv2.imencode(f".{EXTENSIONS[recipe.encode]}", image, options)
    if not done:
        raise UnreadableError(f"OpenCV cannot store {image.shape} as {recipe.encode}")
    return data.tobytes()
