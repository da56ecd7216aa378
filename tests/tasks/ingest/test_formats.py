"""Every kind of picture becomes 8 bit RGB, the right way up; Pillow's own decoding is the judge."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tasks.ingest.pixels import encode_image
from tests.tasks.ingest.pictures import PLAIN, packed, saved, smooth, tagged, unpacked

PIXELS = smooth(44, 60)
PICTURE = Image.fromarray(PIXELS)
CLEAR = Image.fromarray(np.dstack([PIXELS, np.tile(np.arange(60, dtype=np.uint8) * 4, (44, 1))]))


def stored(data: bytes) -> np.ndarray:
    return unpacked(encode_image(data, PLAIN).data)


def adobe(image: Image.Image, transform: int) -> bytes:
    """A JPEG of four channels with Adobe's marker."""
    data = saved(image, "JPEG", quality=95)
    at = data.index(b"Adobe")
    return data[: at + 11] + bytes([transform]) + data[at + 12 :]


CASES: dict[str, bytes] = {
    "jpeg grey": saved(PICTURE.convert("L"), "JPEG"),
    "jpeg": saved(PICTURE, "JPEG"),
    "jpeg 4:4:4": saved(PICTURE, "JPEG", subsampling=0),
    "jpeg progressive": saved(PICTURE, "JPEG", progressive=True),
    "jpeg restart markers": packed(PIXELS, ".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    "png 1 bit": saved(PICTURE.convert("1"), "PNG"),
    "png grey": saved(PICTURE.convert("L"), "PNG"),
    "png grey alpha": saved(CLEAR.convert("LA"), "PNG"),
    "png rgb alpha": saved(CLEAR, "PNG"),
    "png palette": saved(PICTURE.quantize(16), "PNG"),
    "png palette 2 bit": saved(PICTURE.quantize(4), "PNG", bits=2),
    "png palette transparent": saved(PICTURE.quantize(16), "PNG", transparency=3),
    "png transparent colour": saved(PICTURE, "PNG", transparency=tuple(map(int, PIXELS[0, 0]))),
    "tiff": saved(PICTURE, "TIFF"),
    "tiff lzw": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff deflate": saved(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": saved(PICTURE, "TIFF", compression="jpeg"),
    "tiff tiled": saved(PICTURE, "TIFF", compression="tiff_lzw", tiffinfo={322: 16, 323: 16}),
    "tiff 1 bit": saved(PICTURE.convert("1"), "TIFF", compression="group4"),
    "tiff grey": saved(PICTURE.convert("L"), "TIFF"),
    "tiff grey alpha": saved(CLEAR.convert("LA"), "TIFF"),
    "tiff alpha": saved(CLEAR, "TIFF"),
    "tiff palette": saved(PICTURE.quantize(16), "TIFF"),
    "tiff cmyk": saved(PICTURE.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "tiff pages": saved(PICTURE, "TIFF", save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
    "bmp": saved(PICTURE, "BMP"),
    "bmp alpha": saved(CLEAR, "BMP"),
    "bmp palette": saved(PICTURE.quantize(16), "BMP"),
    "webp": saved(PICTURE, "WEBP", quality=80),
    "webp lossless": saved(PICTURE, "WEBP", lossless=True),
    "gif": saved(PICTURE, "GIF"),
    "gif frames": saved(PICTURE, "GIF", save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
    "webp alpha": saved(CLEAR, "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_picture_is_stored_as_pillow_shows_it(case: str) -> None:
    assert np.array_equal(stored(CASES[case]), unpacked(CASES[case]))


@pytest.mark.parametrize("transform", [0, 2], ids=["CMYK", "YCCK"])
def test_four_channels_of_adobe_are_turned_to_rgb(transform: int) -> None:
    data = adobe(PICTURE.convert("CMYK"), transform)
    assert np.abs(stored(data).astype(int) - unpacked(data)).max() <= 1


def test_the_first_of_several_pages_counts() -> None:
    assert np.array_equal(stored(CASES["tiff pages"]), PIXELS)


def test_grey_becomes_three_equal_channels() -> None:
    grey = PIXELS[..., 0]
    assert np.array_equal(stored(packed(grey)), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_divided_by_256(suffix: str, channels: int) -> None:
    deep = (np.arange(44 * 60 * channels, dtype=np.uint32) * 47 % 65536).astype(np.uint16).reshape(44, 60, channels)
    if channels == 4:
        deep[..., 3] = 65535
    found = stored(packed(deep, suffix))
    wanted = (deep >> 8).astype(np.uint8)
    assert np.array_equal(found, np.repeat(wanted, 3, axis=2) if channels == 1 else wanted[..., 2::-1])


def test_sixteen_bits_in_the_other_byte_order_are_divided_by_256() -> None:
    deep = np.arange(0, 65536, 32, dtype=">u2").reshape(32, 64)
    tags = [(256, 4, 64), (257, 4, 32), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, 32), (279, 4, deep.nbytes)]  # fmt: skip
    body = deep.tobytes()
    entries = [
        struct.pack(">HHI", tag, kind, 1) + struct.pack(">I" if kind == 4 else ">Hxx", v) for tag, kind, v in tags
    ]
    data = struct.pack(">2sHI", b"MM", 42, 8 + len(body)) + body + struct.pack(">H", len(tags)) + b"".join(entries)
    assert np.array_equal(stored(data + bytes(4))[..., 0], (deep >> 8).astype(np.uint8))


ORIENTED: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 95}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("case", ORIENTED)
def test_the_orientation_of_the_camera_is_applied(case: str, orientation: int) -> None:
    kind, rest = ORIENTED[case]
    data = saved(PICTURE, kind, exif=tagged(orientation), **rest)
    with Image.open(BytesIO(data)) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    out = encode_image(data, PLAIN)
    assert np.array_equal(unpacked(out.data), wanted)
    assert (out.width, out.height) == wanted.shape[1::-1]
