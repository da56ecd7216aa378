"""What a file is by its content, and its pixels: JPEG and PNG by OpenCV, TIFF, BMP, WebP and GIF by Pillow, DICOM.

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
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, ImageFile, TiffImagePlugin, WebPImagePlugin

from tasks.preprocessing.dicomfile import decode_dicom, is_dicom, read_size
from tasks.preprocessing.effort import check_effort
from tasks.preprocessing.exif import read_orientation, turned, upright
from tasks.preprocessing.jpegfile import JPEG_START, read_jpeg, starved
from tasks.preprocessing.pngfile import PNG_START, read_png
from tasks.preprocessing.unreadable import UnreadableError, check_size, no_image

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
    "GIF": GifImagePlugin.GifImageFile,
}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DEEP = 16  # bits of a sample that has more than 8, as it is handed on
_BITS, _PHOTOMETRIC, _HIGHEST = 258, 262, 281  # tags of TIFF: BitsPerSample, PhotometricInterpretation, MaxSampleValue
_WHITE_IS_ZERO = 0
_MISSING = (128, 128, 128)  # what libjpeg draws where a scan has no more data


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    kind: str  # JPEG, PNG, TIFF, BMP, WebP, GIF or DICOM
    width: int  # of the picture as stored, in pixels; so is the height
    height: int
    orientation: int  # 1 to 8, as in Exif
    deep: bool = False  # its samples have more than 8 bits
    bits: int | None = None  # of a deep sample as it is stored, where these are fewer than 16
    several: bool = False  # it has more pages or frames than the first; not looked for in PNG
    said: int = 0  # bits in use, as the file says; of a file that was scaled to 16 it says what was in use before

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
    if data.startswith(JPEG_START):
        jpeg = read_jpeg(data)
        header = Header("JPEG", jpeg.width, jpeg.height, jpeg.orientation)
    elif data.startswith(PNG_START):
        png = read_png(data)
        header = Header("PNG", png.width, png.height, png.orientation, png.depth == DEEP, said=png.bits or 0)
    elif is_dicom(data):
        header = Header("DICOM", *read_size(data), orientation=1)
    else:
        kind = _pillow_kind(data)
        with _opened(data, kind) as image:
            # Pillow turns TIFF itself, and tells the size after that.
            exif = b"" if kind == "TIFF" else image.info.get("exif", b"")
            orientation = read_orientation(exif.removeprefix(b"Exif\0\0"))
            header = _with_depth(Header(kind, *image.size, orientation), image)
            header = replace(header, several=_has_more(image))
    check_size(header.width, header.height, header.kind, max_pixels)
    check_effort(data, header.kind, header.width, header.height)
    return header


def decode_file(data: bytes, header: Header, factor: int = 1, bits: int = DEEP) -> np.ndarray:
    """The picture as it is looked at, BGR uint8 [H, W, 3].

    Grey becomes three equal channels, alpha is dropped, of deep samples the highest 8 of the bits in use stay, CMYK is
    turned to RGB without a colour profile. Of several pages or frames the first counts.

    Args:
        header: from `read_header`.
        factor: 1, 2, 4 or 8; JPEG alone is decoded smaller by it, which skips most of the work.
        bits: in use, of deep samples of a file that does not say so itself.

    Raises:
        UnreadableError: the pixels cannot be decoded, or not all of them.
    """
    if header.kind == "DICOM":
        return decode_dicom(data)
    if header.deep:
        pixels, inverted = deep_pixels(data, header)
        return upright(_colours(_highest(pixels, header.bits or bits, inverted)), header.orientation)
    if header.kind not in ("JPEG", "PNG"):
        with _opened(data, header.kind) as image:
            return upright(_eight_bits(image), header.orientation)
    flags = _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = _imdecode(data, flags, header.kind)
    if header.kind == "JPEG" and tuple(pixels[-1, -1]) == _MISSING:
        for variant in starved(data):
            if not np.array_equal(_imdecode(variant, flags, header.kind), pixels):
                raise UnreadableError("damaged JPEG: its last rows have no data")
    return upright(pixels, header.orientation)


def decode_all(data: bytes, header: Header, bits: int = DEEP) -> np.ndarray:
    """Every bit of the picture as it is looked at, in OpenCV's order of channels.

    CMYK alone loses: it is turned to RGB. A palette is turned to its colours. Deep samples fill 16 bits.

    Args:
        bits: as of `decode_file`.

    Returns:
        uint8 or uint16, [H, W], [H, W, 3] or with alpha [H, W, 4].

    Raises:
        UnreadableError: as `decode_file`; also TIFF of other depths than 1, 8 or 16 bits.
    """
    if header.deep:
        pixels, inverted = deep_pixels(data, header)
        shift = DEEP - (header.bits or bits)
        most = np.uint16((1 << DEEP) - 1)
        pixels = np.minimum(pixels.astype(np.uint32) << shift, most).astype(np.uint16)
        return upright(most - pixels if inverted else pixels, header.orientation)
    if header.kind in ("JPEG", "PNG"):
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        return upright(_imdecode(data, flags, header.kind), header.orientation)
    with _opened(data, header.kind) as image:
        image.load()
        return upright(_channels(image), header.orientation)


def deep_pixels(data: bytes, header: Header) -> tuple[np.ndarray, bool]:
    """Samples of more than 8 bits as they are stored, and whether the lowest value is white.

    Returns:
        uint16 [H, W], [H, W, 3] or with alpha [H, W, 4], in OpenCV's order of channels.

    Raises:
        UnreadableError: as `decode_file`.
    """
    if header.kind == "PNG":
        return _imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, header.kind), False
    with _opened(data, header.kind) as image:
        inverted = _white_is_zero(image)
        image.load()
        if image.mode.startswith("I;16"):
            # Pillow swaps bytes, and unpacks samples of 12 bits.
            return np.asarray(image).astype(np.uint16), inverted
        _refuse_deep(image)
    # Pillow keeps 8 of the 16 bits of a colour TIFF; OpenCV turns TIFF itself.
    return _imdecode(data, cv2.IMREAD_UNCHANGED, header.kind), inverted


def bits_in_use(data: bytes, header: Header) -> int:
    """Bits that the samples of a deep file need, at least 8.

    What the file says counts where its samples fit; else they were scaled to 16 bits, as the PNG specification asks.
    """
    needed = max(8, int(deep_pixels(data, header)[0].max()).bit_length())
    if not header.said:
        return needed
    return max(needed, header.said) if needed <= header.said else DEEP


def _with_depth(header: Header, image: ImageFile.ImageFile) -> Header:
    """A header with what a TIFF says of the depth of its samples."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return header
    stored = max(image.tag_v2.get(_BITS, (1,)))
    if not 8 < stored <= DEEP:
        return header
    if stored < DEEP:
        return replace(header, deep=True, bits=stored)
    highest = image.tag_v2.get(_HIGHEST)
    most = max(highest) if isinstance(highest, tuple) else highest
    return replace(header, deep=True, said=int(most).bit_length() if most else 0)


def _has_more(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except Exception:
        # Pillow's parsers raise whatever damage makes them trip over. A damaged second frame is one too, and no reason
        # to refuse the first.
        return True


def _highest(pixels: np.ndarray, bits: int, inverted: bool) -> np.ndarray:
    """The highest 8 of the bits in use, uint8."""
    found = np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)
    return 255 - found if inverted else found


def _colours(pixels: np.ndarray) -> np.ndarray:
    """BGR [H, W, 3] of grey, colours, or colours with alpha."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    return np.ascontiguousarray(pixels[..., :3])


def _pillow_kind(data: bytes) -> str:
    if data.startswith(_TIFF_STARTS):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
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
    _refuse_deep(image)
    return np.asarray(image.convert("RGB"))[..., ::-1].copy()


def _white_is_zero(image: ImageFile.ImageFile) -> bool:
    """Whether the lowest value is white. Pillow turns such a TIFF of 8 bits, and leaves one of 16 as it is."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


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
        raise UnreadableError(
            "its pixels have 32 bits or a sign, whose range nobody states; convert them to 8 or 16 bits"
        )


def _imdecode(data: bytes, flags: int, kind: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableError(f"the {kind} cannot be decoded: {error.err}") from None
    if pixels is None:
        raise UnreadableError(f"the {kind} is damaged: its pixels cannot be decoded")
    return np.asarray(pixels)
