"""Files that are no whole image: each is refused in words, or gives the right pixels."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tasks.ingest.pixels import ImageRecipe, UnreadableError, encode_image
from tests.tasks.ingest.pictures import KEEP, PLAIN, chunk, noisy, packed, png, saved, segment, unpacked

PIXELS = noisy(90, 120)
PICTURE = Image.fromarray(PIXELS)
JPEG = saved(PICTURE, "JPEG", quality=90)
PROGRESSIVE = saved(PICTURE, "JPEG", quality=90, progressive=True)
PNG = saved(PICTURE, "PNG")
TIFF = saved(PICTURE, "TIFF")
LZW = saved(PICTURE, "TIFF", compression="tiff_lzw")
BMP = saved(PICTURE, "BMP")
WEBP = saved(PICTURE, "WEBP", quality=90)
ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)


def share(data: bytes, part: float) -> bytes:
    return data[: int(len(data) * part)]


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def marker(code: int, data: bytes = JPEG) -> int:
    return data.index(bytes([0xFF, code]))


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
    return buffer.getvalue()


SCAN = marker(0xDA)
FRAME = marker(0xC0)
TABLE = marker(0xC4)
THUMBNAIL = segment(0xE1, b"Exif\0\0" + saved(PICTURE.resize((16, 12)), "JPEG"))
WITH_THUMBNAIL = JPEG[:2] + THUMBNAIL + JPEG[2:]
CUT = "cut-off JPEG: no end-of-image marker"
NO_IMAGE = "the content is no image, whatever the name says"

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"\xff", NO_IMAGE),
    "zeros": (bytes(1000), "nothing but 1000 zero bytes"),
    "text": (b"left eye, taken on a Monday", NO_IMAGE),
    "html": (b"\n<!DOCTYPE html><html>404</html>", "HTML page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "XML or SVG"),
    "gif cut": (saved(PICTURE, "GIF")[:400], "the GIF is cut off or damaged"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "zip": (zipped(), "a zip archive"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "HEIC"),
    "dicom": (bytes(128) + b"DICM" + bytes(100), "DICOM"),
    "pdf": (b"%PDF-1.7\n", "a PDF"),
    "jpeg cut in its first table": (JPEG[:30], CUT),
    "jpeg cut in its header": (JPEG[: FRAME + 6], CUT),
    "jpeg cut after its header": (JPEG[: SCAN + 2], CUT),
    "jpeg cut in its scan": (share(JPEG, 0.6), CUT),
    "jpeg cut before its end": (JPEG[:-2], CUT),
    "jpeg cut and padded with zeros": (share(JPEG, 0.5) + bytes(4096), CUT),
    "jpeg cut and closed": (share(JPEG, 0.5) + b"\xff\xd9", "last rows have no data"),
    "jpeg with no scan data": (JPEG[: SCAN + 14] + b"\xff\xd9", "last rows have no data"),
    "jpeg taller than its data": (patched(JPEG, FRAME + 5, b"\x02\x00"), "last rows have no data"),
    "jpeg start alone": (b"\xff\xd8\xff\xe0", CUT),
    "jpeg without scan": (JPEG[:SCAN] + b"\xff\xd9", "ends before its first scan"),
    "jpeg without frame": (JPEG[:2] + JPEG[SCAN:], "no frame header"),
    "jpeg with thumbnail, cut": (share(WITH_THUMBNAIL, 0.7), CUT),
    "jpeg cut inside its thumbnail": (WITH_THUMBNAIL[: len(THUMBNAIL) + 2], CUT),
    "progressive jpeg cut in a scan": (share(PROGRESSIVE, 0.7), CUT),
    "jpeg with a wrong Huffman table": (patched(JPEG, TABLE + 5, b"\xff" * 16), "the JPEG is damaged"),
    "jpeg of no height": (patched(JPEG, FRAME + 5, b"\0\0"), "120 x 0 pixels"),
    "jpeg of no width": (patched(JPEG, FRAME + 7, b"\0\0"), "0 x 90 pixels"),
    "jpeg of absurd size": (
        patched(JPEG, FRAME + 5, b"\xff\xff\xff\xff"),
        "65535 x 65535 pixels, and max_pixels allows",
    ),
    "jpeg of 12 bits": (patched(JPEG, FRAME + 4, b"\x0c"), "the JPEG is damaged"),
    "png with a wrong crc": (patched(PNG, 500, bytes([PNG[500] ^ 1])), "crc of chunk b'IDAT'"),
    "png without its end": (PNG[:-12], "no IEND"),
    "png cut in its pixels": (share(PNG, 0.6), "no IEND"),
    "png start alone": (PNG[:8], "no IEND"),
    "png with a short header": (PNG[:8] + chunk(b"IHDR", bytes(12)) + PNG[33:], "IHDR chunk has 12 bytes"),
    "png without a header": (PNG[:8] + PNG[33:], "does not start with an IHDR"),
    "png of no width": (png(0, 90, zlib.compress(ROWS)), "0 x 90 pixels"),
    "png bomb": (png(50_000, 50_000, zlib.compress(bytes(1000))), "50000 x 50000 pixels, and max_pixels allows"),
    "png of garbage": (png(120, 90, b"no deflate at all"), "the PNG is damaged"),
    "png of half its rows": (png(120, 90, zlib.compress(ROWS[: len(ROWS) // 2])), "the PNG is damaged"),
    "png of cut deflate": (png(120, 90, zlib.compress(ROWS)[:-400]), "the PNG is damaged"),
    "png without pixels": (PNG[:33] + chunk(b"IEND", b""), "the PNG is damaged"),
    "png without its palette": (png(120, 90, zlib.compress(bytes(121 * 90)), colour=3), "the PNG is damaged"),
    "png of an unknown kind": (png(120, 90, zlib.compress(ROWS), colour=5), "the PNG is damaged"),
    "png of 16 bits, cut": (share(packed(PIXELS.astype(np.uint16) * 257), 0.8), "no IEND"),
    "tiff cut": (share(TIFF, 0.6), "the TIFF is cut off or damaged"),
    "lzw tiff cut": (share(LZW, 0.6), "the TIFF is cut off or damaged"),
    "tiff start alone": (b"II*\0", "the TIFF is cut off or damaged"),
    "tiff without pixels": (struct.pack("<2sHIHI", b"II", 42, 8, 0, 0), "the TIFF is cut off or damaged"),
    "tiff of 32 bits": (saved(PICTURE.convert("F"), "TIFF"), "32 bits"),
    "bmp cut": (share(BMP, 0.6), "the BMP is cut off or damaged"),
    "bmp start alone": (b"BM", "the BMP is cut off or damaged"),
    "bmp of absurd size": (patched(BMP, 18, struct.pack("<ii", 2**31 - 1, -(2**31) + 1)), "max_pixels allows"),
    "webp cut": (share(WEBP, 0.6), "the WebP is cut off or damaged"),
    "webp start alone": (WEBP[:12], "the WebP is cut off or damaged"),
}


@pytest.mark.parametrize("recipe", [PLAIN, KEEP, replace(PLAIN, size=24, crop="fundus")], ids=["png", "keep", "crop"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_file_is_refused_in_words(case: str, recipe: ImageRecipe) -> None:
    data, says = REFUSED[case]
    with pytest.raises(UnreadableError, match=re.escape(says)) as caught:
        encode_image(data, recipe)
    # Reasons stand in manifests: no addresses, nothing that a second run would say otherwise.
    assert "0x" not in str(caught.value)
    assert "BytesIO" not in str(caught.value)


def looped() -> bytes:
    """A TIFF whose first page names itself as the next one."""
    (start,) = struct.unpack_from("<I", TIFF, 4)
    (count,) = struct.unpack_from("<H", TIFF, start)
    return patched(TIFF, start + 2 + 12 * count, struct.pack("<I", start))


FINE: dict[str, tuple[bytes, bytes]] = {
    "garbage for Exif": (JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(range(200))) + JPEG[2:], JPEG),
    "Exif that points outside": (JPEG[:2] + segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff") + JPEG[2:], JPEG),
    "an orientation of 9": (
        JPEG[:2]
        + segment(0xE1, b"Exif\0\0" + struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 9, 0, 0))
        + JPEG[2:],
        JPEG,
    ),
    "a thumbnail": (WITH_THUMBNAIL, JPEG),
    "bytes after the end": (JPEG + b"trailer" * 100, JPEG),
    "zeros after the end": (JPEG + bytes(5000), JPEG),
    "fill bytes before a marker": (JPEG[:FRAME] + b"\xff\xff\xff" + JPEG[FRAME:], JPEG),
    "a png chunk nobody knows": (PNG[:33] + chunk(b"juNk", b"?") + PNG[33:], PNG),
    "bytes after a png": (PNG + b"trailer", PNG),
    "a tiff that goes in circles": (looped(), TIFF),
}


@pytest.mark.parametrize("recipe", [PLAIN, KEEP], ids=["png", "keep"])
@pytest.mark.parametrize("case", FINE)
def test_a_fault_beside_the_pixels_does_no_harm(case: str, recipe: ImageRecipe) -> None:
    odd, plain = FINE[case]
    assert np.array_equal(unpacked(encode_image(odd, recipe).data), unpacked(plain))


@pytest.mark.parametrize("kind", ["JPEG", "PROGRESSIVE", "PNG", "TIFF", "LZW", "BMP", "WEBP"])
def test_a_file_cut_at_any_place_is_refused_or_whole(kind: str) -> None:
    whole: bytes = globals()[kind]
    wanted = encode_image(whole, PLAIN).data
    stored = 0
    for end in np.linspace(0, len(whole) - 1, 60).astype(int):
        try:
            found = encode_image(whole[:end], PLAIN).data
        except UnreadableError:
            continue
        # A last padding byte may be missing; a pixel may not.
        stored += 1
        assert found == wanted
    assert stored <= 3


@pytest.mark.parametrize("limit", [1, 10_799])
@pytest.mark.parametrize("make", [lambda: JPEG, lambda: PNG, lambda: TIFF, lambda: BMP, lambda: WEBP])
def test_more_pixels_than_the_limit_are_refused(make: Callable[[], bytes], limit: int) -> None:
    with pytest.raises(UnreadableError, match=f"^too large: 120 x 90 pixels, and max_pixels allows {limit}$"):
        encode_image(make(), replace(PLAIN, max_pixels=limit))


def test_as_many_pixels_as_the_limit_are_stored() -> None:
    assert encode_image(TIFF, replace(PLAIN, max_pixels=10_800)).width == 120


def test_a_picture_beyond_pillows_own_limit_brings_no_warning() -> None:
    data = saved(Image.new("1", (12_000, 10_000)), "TIFF")
    assert encode_image(data, replace(PLAIN, size=8, max_pixels=120_000_000)).width == 12_000


def test_a_grey_picture_of_the_value_that_decoders_fill_in_is_stored() -> None:
    data = saved(Image.new("RGB", (64, 48), (128, 128, 128)), "JPEG", quality=90)
    assert (unpacked(encode_image(data, PLAIN).data) == 128).all()
