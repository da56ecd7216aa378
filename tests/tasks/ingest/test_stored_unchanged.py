"""Stored without encoding again: the same pixels, none of the metadata."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from tasks.ingest.pixels import EncodedImage, encode_image
from tests.tasks.ingest.pictures import KEEP, chunk, noisy, packed, saved, segment, tagged, unpacked

PIXELS = noisy(44, 60)
PICTURE = Image.fromarray(PIXELS)
CLEAR = Image.fromarray(np.dstack([PIXELS, np.tile(np.arange(60, dtype=np.uint8) * 4, (44, 1))]))
SECRET = b"JANE DOE 1950-01-01"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def stored(data: bytes) -> EncodedImage:
    return encode_image(data, KEEP)


def opencv(data: bytes, flags: int) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert pixels is not None
    return np.asarray(pixels)


def turned(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))


def assert_same_pixels(one: bytes, two: bytes) -> None:
    for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED, cv2.IMREAD_REDUCED_COLOR_2):
        assert np.array_equal(opencv(one, flags), opencv(two, flags))
    assert np.array_equal(turned(one), turned(two))


def full(data: bytes) -> bytes:
    """A JPEG with every kind of metadata, and a second picture behind it."""
    thumbnail = b"JFIF\0\1\1\0\0\1\0\1\2\2" + SECRET[:12]
    extra = [segment(0xED, b"Photoshop 3.0\0" + SECRET), segment(0xFE, SECRET), segment(0xE0, b"JFXX\0" + SECRET)]
    body = data[20:] if data[6:10] == b"JFIF" else data[2:]
    head = segment(0xE0, thumbnail) if data[6:10] == b"JFIF" else b""
    return data[:2] + head + b"".join(extra) + body + SECRET + data


JPEGS: dict[str, bytes] = {
    "baseline": saved(PICTURE, "JPEG", icc_profile=PROFILE, comment=SECRET, exif=tagged(1)),
    "grey": saved(PICTURE.convert("L"), "JPEG", exif=tagged(1)),
    "progressive": saved(PICTURE, "JPEG", progressive=True, exif=tagged(6), icc_profile=PROFILE),
    "rgb without transform": saved(PICTURE, "JPEG", keep_rgb=True),
    "cmyk": saved(PICTURE.convert("CMYK"), "JPEG", exif=tagged(3)),
    "restart markers": packed(PIXELS, ".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    "two pictures": saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)], exif=tagged(8)),
}


@pytest.mark.parametrize("wrap", [bytes, full])
@pytest.mark.parametrize("case", JPEGS)
def test_a_jpeg_keeps_its_pixels_and_loses_its_metadata(case: str, wrap: type[bytes]) -> None:
    data = wrap(JPEGS[case])
    out = stored(data)
    assert_same_pixels(out.data, data)
    assert out.ext == "jpg"
    assert b"JANE" not in out.data
    assert b"DOE" not in out.data
    assert b"ICC_PROFILE" not in out.data
    assert out.data.endswith(b"\xff\xd9")
    assert out.data.count(b"\xff\xd8\xff") == 1


def test_the_scans_of_a_jpeg_stay_bit_for_bit() -> None:
    data = full(JPEGS["baseline"])
    scan = JPEGS["baseline"][JPEGS["baseline"].index(b"\xff\xda") :]
    assert stored(data).data.endswith(scan)


def test_a_comment_between_two_scans_goes() -> None:
    data = JPEGS["progressive"]
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    table = second
    commented = data[:table] + segment(0xFE, SECRET) + data[table:]
    assert stored(commented).data == stored(data).data


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decoders_still_turn_the_picture(kind: str, orientation: int) -> None:
    rest = {"lossless": True} if kind == "WEBP" else {}
    data = saved(PICTURE, kind, exif=tagged(orientation), **rest)
    out = stored(data)
    assert_same_pixels_when_shown(out.data, data)
    assert (out.width, out.height) == ((60, 44) if orientation < 5 else (44, 60))
    assert b"JANE" not in out.data


def assert_same_pixels_when_shown(one: bytes, two: bytes) -> None:
    assert np.array_equal(opencv(one, cv2.IMREAD_COLOR), opencv(two, cv2.IMREAD_COLOR))
    assert np.array_equal(turned(one), turned(two))


def test_an_upright_jpeg_has_no_metadata_left_at_all() -> None:
    with Image.open(io.BytesIO(stored(JPEGS["baseline"]).data)) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}


def noted() -> PngInfo:
    note = PngInfo()
    note.add_text("patient", SECRET.decode())
    note.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    return note


PNGS: dict[str, bytes] = {
    "grey": saved(PICTURE.convert("L"), "PNG", pnginfo=noted()),
    "1 bit": saved(PICTURE.convert("1"), "PNG", pnginfo=noted()),
    "rgb": saved(PICTURE, "PNG", pnginfo=noted(), icc_profile=PROFILE, dpi=(300, 300), exif=tagged(6)),
    "alpha": saved(CLEAR, "PNG", pnginfo=noted()),
    "palette": saved(PICTURE.quantize(16), "PNG", transparency=3),
    "transparent colour": saved(PICTURE, "PNG", transparency=tuple(map(int, PIXELS[0, 0]))),
    "16 bit": packed(PIXELS.astype(np.uint16) * 200),
}
COLOURS = b"".join(
    [
        chunk(b"gAMA", (45455 * 2).to_bytes(4, "big")),
        chunk(b"cHRM", bytes(range(32))),
        chunk(b"pHYs", bytes(9)),
        chunk(b"tIME", b"\x07\xd0\x01\x01\0\0\0"),
        chunk(b"prVt", SECRET),
    ]
)


@pytest.mark.parametrize("extra", [b"", COLOURS], ids=["plain", "colours"])
@pytest.mark.parametrize("case", PNGS)
def test_a_png_keeps_its_pixels_and_loses_its_metadata(case: str, extra: bytes) -> None:
    data = PNGS[case][:33] + extra + PNGS[case][33:] + SECRET
    out = stored(data)
    assert_same_pixels(out.data, data)
    assert out.ext == "png"
    assert b"JANE" not in out.data


def test_only_the_first_picture_of_an_animation_stays() -> None:
    data = saved(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)], duration=100)
    out = stored(data)
    assert np.array_equal(unpacked(out.data), PIXELS)
    with Image.open(io.BytesIO(out.data)) as image:
        assert getattr(image, "n_frames", 1) == 1


OTHERS: dict[str, bytes] = {
    "tiff grey": saved(PICTURE.convert("L"), "TIFF"),
    "tiff rgb": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff alpha": saved(CLEAR, "TIFF"),
    "tiff palette": saved(PICTURE.quantize(16), "TIFF"),
    "bmp": saved(PICTURE, "BMP"),
    "webp": saved(PICTURE, "WEBP", quality=80),
    "webp alpha": saved(CLEAR, "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_cannot_stand_in_a_shard_becomes_a_png_of_the_same_pixels(case: str) -> None:
    out = stored(OTHERS[case])
    assert out.ext == "png"
    assert np.array_equal(turned(out.data), turned(OTHERS[case]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compression", [1, 5], ids=["none", "lzw"])
def test_a_tiff_of_16_bits_keeps_them_all(channels: int, compression: int) -> None:
    deep = (np.arange(44 * 60 * channels, dtype=np.uint32) * 7919 % 65536).astype(np.uint16).reshape(44, 60, channels)
    out = stored(packed(deep, ".tif", [cv2.IMWRITE_TIFF_COMPRESSION, compression]))
    found = opencv(out.data, cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert np.array_equal(found.reshape(deep.shape), deep)


def test_the_same_bytes_come_out_of_what_was_kept_before() -> None:
    for data in (JPEGS["progressive"], PNGS["rgb"], OTHERS["tiff rgb"]):
        once = stored(data).data
        assert stored(once).data == once


@pytest.mark.real
def test_real_images_keep_their_pixels(real_data: Path) -> None:
    for pattern in ("hyper-kvasir/labeled-images/**/*.jpg", "imo-fundus/images/*.jpg", "chestx-ray14/**/*.png"):
        for path in sorted(real_data.glob(pattern))[::60]:
            data = path.read_bytes()
            assert_same_pixels(stored(data).data, data)
