"""The image that a shard stores, made of the bytes of a source file.

A registered student runs this same code on a photograph before it looks at it, so that it sees what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from tasks.preprocessing.crop import FINDERS, Box
from tasks.preprocessing.dicomfile import is_burned_in
from tasks.preprocessing.formats import DEEP, Header, decode_all, decode_file
from tasks.preprocessing.frame_mask import Polygon, paint
from tasks.preprocessing.jpegfile import strip_jpeg
from tasks.preprocessing.pngfile import strip_png
from tasks.preprocessing.unreadable import UnreadableError

EXTENSIONS = {"jpeg": "jpg", "png": "png"}
BITS_FACT = "bits"
"""Fact of an ingest manifest: bits in use of deep samples; not there where no image has any."""

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


def recipe_of(section: Mapping[str, Any], bits: int | None = None) -> ImageRecipe:
    """What becomes of an image, as the section of an ingest manifest says.

    Args:
        bits: in use of deep samples, as the manifest's fact `BITS_FACT` says.
    """
    how = {name: value for name, value in section["ingest"].items() if name != "shard_size"}
    return ImageRecipe(**how | ({"bits": bits} if bits else {}))


@dataclass(frozen=True)
class StoredImage:
    """An image as a shard stores it, before anything is measured on it."""

    data: bytes
    ext: str  # jpg or png
    pixels: np.ndarray  # BGR uint8 [H, W, 3] before they were encoded; perhaps decoded smaller where the file is kept
    cropped: bool  # a part of the frame was found and cut out


def store_image(data: bytes, header: Header, recipe: ImageRecipe) -> StoredImage:
    """Decode, mask, crop, resize by area so that the shorter side is `size` (never enlarge), encode without metadata.

    Args:
        data: a whole file.
        header: what `read_header` said of it.

    Raises:
        UnreadableError: it cannot be decoded whole, or is a DICOM that may not be stored as the recipe says.
    """
    if header.kind == "DICOM":
        _check_dicom(data, recipe)
    if recipe.encode == "keep":
        stored, ext, image = store_unchanged(data, header, recipe.bits)
        return StoredImage(stored, ext, image, False)
    image, cropped = _picture(data, header, recipe)
    return _stored(image, recipe, cropped)


def stored_pixels(data: bytes, header: Header, recipe: ImageRecipe) -> np.ndarray:
    """The picture of `store_image`, BGR uint8 [H, W, 3], before it is encoded; arguments and errors as there."""
    if header.kind == "DICOM":
        _check_dicom(data, recipe)
    if recipe.encode == "keep":
        return store_unchanged(data, header, recipe.bits)[2]
    return _shrink(_picture(data, header, recipe)[0], recipe.size)


def store_pixels(image: np.ndarray, recipe: ImageRecipe) -> StoredImage:
    """`store_image` of a whole frame that somebody else has decoded; not for `keep`.

    Args:
        image: BGR uint8 [H, W, 3], upright, of its full size.
    """
    box = _found(image, recipe)
    return _stored(_visible(image, recipe, box), recipe, box is not None)


def _check_dicom(data: bytes, recipe: ImageRecipe) -> None:
    if recipe.encode == "keep":
        raise UnreadableError("the DICOM cannot be kept as it is, as its header names the patient; use encode: png")
    if is_burned_in(data) and not recipe.mask:
        raise UnreadableError("the DICOM says that text is burned into its pixels; set ingest.mask, or take it out")


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
        return strip_jpeg(data, header.orientation), "jpg", decode_file(data, header, factor)
    picture = decode_file(data, header, bits=bits)
    if header.kind == "PNG" and not (header.deep and (header.bits or bits) < DEEP):
        return strip_png(data, header.orientation), "png", picture
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
    image = decode_file(data, header, factor, recipe.bits)
    box = _found(image, recipe)
    if box is not None and wanted and (larger := jpeg_factor(box.side(width, height), wanted)) < factor:
        image = decode_file(data, header, larger, recipe.bits)
    return _visible(image, recipe, box), box is not None


def _found(image: np.ndarray, recipe: ImageRecipe) -> Box | None:
    return None if recipe.mask or recipe.crop == "none" else FINDERS[recipe.crop](image)


def _visible(image: np.ndarray, recipe: ImageRecipe, box: Box | None) -> np.ndarray:
    return paint(image, recipe.mask) if box is None else box.cut(image)


def _stored(image: np.ndarray, recipe: ImageRecipe, cropped: bool) -> StoredImage:
    image = _shrink(image, recipe.size)
    return StoredImage(_encode(image, recipe), EXTENSIONS[recipe.encode], image, cropped)


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
