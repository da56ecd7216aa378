"""What a file is by its content, and its pixels: JPEG and PNG by OpenCV, TIFF, BMP and WebP by Pillow.

OpenCV reads JPEG at a reduced scale and refuses every PNG that is not whole. Of the other formats it fills
what is missing with black and multiplies colours by alpha, where Pillow's loading is strict; so they are Pillow's.
Pillow's plugins are called by name: none but these ever sees the bytes, and the pixel limit here comes before
Pillow's own, which warns on the user's terminal (and which still refuses TIFF and WebP of 179 megapixels).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import BmpImagePlugin, ImageFile, TiffImagePlugin, WebPImagePlugin

from tasks.ingest import jpegfile, pngfile
from tasks.ingest.exif import read_orientation, turned, upright
from tasks.ingest.limits import check_effort
from tasks.ingest.unreadable import UnreadableError, check_size, no_image

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS = 258  # BitsPerSample
_MISSING = (128, 128, 128)  # what libjpeg draws where a scan has no more data


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    kind: str  # JPEG, PNG, TIFF, BMP or WebP
    width: int  # of the picture as stored, in pixels; so is the height
    height: int
    orientation: int  # 1 to 8, as in Exif

    @property
    def looked_at(self) -> tuple[int, int]:
        """(width, height) after the orientation."""
        return (self.height, self.width) if turned(self.orientation) else (self.width, self.height)


def read_header(data: bytes, max_pixels: int) -> Header:
    """What the file is. JPEG and PNG are also checked to be whole; the others are when they are decoded.

    Args:
        max_pixels: most pixels that a picture may have.

    Raises:
        UnreadableError: no bytes, no image of a format that is read, too large, cut off or damaged.
    """
    if data.startswith(jpegfile.START):
        jpeg = jpegfile.read_jpeg(data)
        header = Header("JPEG", jpeg.width, jpeg.height, jpeg.orientation)
    elif data.startswith(pngfile.START):
        png = pngfile.read_png(data)
        header = Header("PNG", png.width, png.height, png.orientation)
    else:
        kind = _pillow_kind(data)
        with _opened(data, kind) as image:
            # Pillow turns TIFF itself, and tells the size after that.
            exif = b"" if kind == "TIFF" else image.info.get("exif", b"")
            header = Header(kind, *image.size, read_orientation(exif.removeprefix(b"Exif\0\0")))
    check_size(header.width, header.height, header.kind, max_pixels)
    check_effort(data, header.kind, header.width, header.height)
    return header


def decode(data: bytes, header: Header, factor: int = 1) -> np.ndarray:
    """The picture as it is looked at, BGR uint8 [H, W, 3].

    Grey becomes three equal channels, alpha is dropped, 16 bits are divided by 256, CMYK is turned to RGB
    without a colour profile. Of several pages or frames the first counts.

    Args:
        header: from `read_header`.
        factor: 1, 2, 4 or 8; JPEG alone is decoded smaller by it, which skips most of the work.

    Raises:
        UnreadableError: the pixels cannot be decoded, or not all of them.
    """
    if header.kind not in ("JPEG", "PNG"):
        with _opened(data, header.kind) as image:
            return upright(_eight_bits(image), header.orientation)
    flags = _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = _imdecode(data, flags, header.kind)
    if header.kind == "JPEG" and tuple(pixels[-1, -1]) == _MISSING:
        for variant in jpegfile.starved(data):
            if not np.array_equal(_imdecode(variant, flags, header.kind), pixels):
                raise UnreadableError("damaged JPEG: its last rows have no data")
    return upright(pixels, header.orientation)


def decode_all(data: bytes, header: Header) -> np.ndarray:
    """Every bit of the picture as it is looked at, in OpenCV's order of channels.

    CMYK alone loses: it is turned to RGB. A palette is turned to its colours.

    Returns:
        uint8 or uint16, [H, W], [H, W, 3] or with alpha [H, W, 4].

    Raises:
        UnreadableError: as `decode`; also TIFF of other depths than 1, 8 or 16 bits.
    """
    if header.kind in ("JPEG", "PNG"):
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        return upright(_imdecode(data, flags, header.kind), header.orientation)
    with _opened(data, header.kind) as image:
        deep = isinstance(image, TiffImagePlugin.TiffImageFile) and max(image.tag_v2.get(_BITS, (1,))) > 8
        image.load()
        if not deep:
            return upright(_channels(image), header.orientation)
    # Pillow keeps 8 of the 16 bits of a colour TIFF; OpenCV turns TIFF itself.
    return _imdecode(data, cv2.IMREAD_UNCHANGED, header.kind)


def _pillow_kind(data: bytes) -> str:
    if data.startswith(_TIFF_STARTS):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    raise no_image(data)


@contextmanager
def _opened(data: bytes, kind: str) -> Iterator[ImageFile.ImageFile]:
    """The image as Pillow's plugin opens it; whatever goes wrong inside becomes an UnreadableError."""
    with warnings.catch_warnings():
        # Odd metadata is no fault of the pixels, and none of it is kept.
        warnings.simplefilter("ignore")
        try:
            with _PLUGINS[kind](io.BytesIO(data)) as image:
                yield image
        except (UnreadableError, MemoryError):
            raise
        except Exception as error:
            # Pillow's parsers raise whatever a damaged file makes them trip over: KeyError, TypeError, OSError ...
            text = str(error) or type(error).__name__
            raise UnreadableError(f"the {kind} is cut off or damaged: {text}") from None


def _eight_bits(image: ImageFile.ImageFile) -> np.ndarray:
    """BGR uint8 [H, W, 3] of an opened image; loads it."""
    image.load()
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    _refuse_deep(image)
    return np.asarray(image.convert("RGB"))[..., ::-1].copy()


def _channels(image: ImageFile.ImageFile) -> np.ndarray:
    """All channels, uint8 [H, W], BGR [H, W, 3] or BGRA [H, W, 4], of a loaded image."""
    _refuse_deep(image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    alpha = image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if alpha else cv2.COLOR_RGB2BGR))


def _refuse_deep(image: ImageFile.ImageFile) -> None:
    if image.mode in ("I", "F"):
        raise UnreadableError("its pixels have 32 bits, whose range nobody states; convert them to 8 or 16 bits")


def _imdecode(data: bytes, flags: int, kind: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableError(f"the {kind} cannot be decoded: {error.err}") from None
    if pixels is None:
        raise UnreadableError(f"the {kind} is damaged: its pixels cannot be decoded")
    return np.asarray(pixels)
