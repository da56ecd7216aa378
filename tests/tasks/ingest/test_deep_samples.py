"""Samples of more than 8 bits: which bits are in use, and which value is white."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from tasks.ingest.pixels import ImageRecipe, encode_image
from tasks.preprocessing.formats import decode_all, read_header
from tests.tasks.ingest.pictures import KEEP, PLAIN, packed, saved, smooth, unpacked


def stored(data: bytes) -> np.ndarray:
    """RGB uint8 [H, W, 3] of what becomes of a file."""
    return unpacked(encode_image(data, PLAIN).data)


def shown(data: bytes) -> np.ndarray:
    """BGR uint8 [H, W, 3] as views are rendered from a stored file."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def grey_tiff(pixels: np.ndarray, photometric: int) -> bytes:
    """A TIFF whose values mean what the tag says: 0 white is zero, 1 black is zero."""
    bits = pixels.dtype.itemsize * 8
    height, width = pixels.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
            (277, 3, 1), (278, 4, height), (279, 4, pixels.nbytes)]  # fmt: skip
    entries = [
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I" if kind == 4 else "<Hxx", v) for tag, kind, v in tags
    ]
    body = pixels.tobytes()
    head = struct.pack("<2sHI", b"II", 42, 8 + len(body))
    return head + body + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_white_is_zero_is_stored_the_right_way_round(dtype: type) -> None:
    most = np.iinfo(dtype).max
    pixels = np.linspace(0, most, 32 * 64).astype(dtype).reshape(32, 64)
    assert np.array_equal(stored(grey_tiff(most - pixels, 0)), stored(grey_tiff(pixels, 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_white_is_zero_keeps_all_its_bits_the_right_way_round(dtype: type) -> None:
    most = np.iinfo(dtype).max
    pixels = np.linspace(0, most, 32 * 64).astype(dtype).reshape(32, 64)
    kept = [decode_all(data, read_header(data, 10**6)) for data in (grey_tiff(most - pixels, 0), grey_tiff(pixels, 1))]
    assert np.array_equal(*kept)
    assert np.array_equal(kept[0].reshape(32, 64), pixels)


def deep_png(bits: int, said: int | None = None) -> bytes:
    """A grey ramp in the lowest bits of 16, with an sBIT chunk where `said` is given."""
    ramp = np.linspace(0, 2**bits - 1, 32 * 64).astype(np.uint16).reshape(32, 64)
    data = packed(ramp)
    if said is None:
        return data
    body = b"sBIT" + bytes([said])
    at = 8 + 25  # after the start and IHDR
    return data[:at] + (1).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + data[at:]


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (deep_png(12), 12),
        (deep_png(16), 16),
        (deep_png(10, said=12), 12),
        (deep_png(16, said=12), 16),  # scaled, as the specification asks
        (deep_png(5), 8),
        (saved(Image.fromarray(smooth(44, 60)), "PNG"), 0),
    ],
)
def test_the_bits_that_samples_need_are_told(data: bytes, bits: int) -> None:
    assert encode_image(data, PLAIN).bits == bits


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("recipe", [PLAIN, KEEP], ids=["png", "keep"])
def test_the_bits_in_use_fill_the_stored_range(bits: int, recipe: ImageRecipe) -> None:
    found = shown(encode_image(deep_png(bits), replace(recipe, bits=bits)).data)
    assert (found.min(), found.max()) == (0, 255)


def test_twelve_bits_with_white_at_zero_are_turned_within_them() -> None:
    ramp = np.linspace(0, 4095, 32 * 64).astype(np.uint16).reshape(32, 64)
    recipe = replace(PLAIN, bits=12)
    found = [unpacked(encode_image(grey_tiff(*given), recipe).data) for given in ((4095 - ramp, 0), (ramp, 1))]
    assert np.array_equal(*found)
