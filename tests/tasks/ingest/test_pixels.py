"""From source bytes to stored bytes."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks.ingest.pixels import Encoded, UnreadableError, reencode
from tests.tasks.corpora.layouts import image


def stored(data: bytes, size: int = 512) -> np.ndarray:
    out = reencode(data, size=size, encode="png", quality=92)
    return np.asarray(Image.open(io.BytesIO(out.data)))


def packed(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


def smooth(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def refused(data: bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        reencode(data, size=64, encode="jpeg", quality=90)
    return str(caught.value)


def test_the_shorter_side_becomes_the_size() -> None:
    assert stored(packed(smooth(60, 90)), size=20).shape == (20, 30, 3)


def test_nothing_is_enlarged() -> None:
    assert stored(packed(smooth(60, 90)), size=100).shape == (60, 90, 3)


def test_pixels_that_need_no_resize_stay_as_they_are() -> None:
    pixels = smooth(30, 40)
    assert np.array_equal(stored(packed(pixels)), pixels[..., ::-1])


def test_reduced_decoding_looks_like_full_decoding() -> None:
    data = packed(smooth(400, 600), ".jpg")
    full = cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), 1), (75, 50), interpolation=cv2.INTER_AREA)
    assert np.abs(stored(data, size=50).astype(int) - full[..., ::-1]).mean() < 1.5


def test_the_source_size_is_told() -> None:
    out = reencode(packed(smooth(400, 600), ".jpg"), size=50, encode="jpeg", quality=90)
    assert (out.width, out.height) == (600, 400)


def test_grey_becomes_three_channels() -> None:
    pixels = smooth(30, 40)[..., 0]
    assert np.array_equal(stored(packed(pixels)), np.repeat(pixels[..., None], 3, axis=2))


def test_sixteen_bits_are_scaled() -> None:
    pixels = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54
    assert np.array_equal(stored(packed(pixels))[..., 0], (pixels >> 8).astype(np.uint8))


def test_alpha_is_dropped() -> None:
    pixels = np.dstack([smooth(30, 40), np.zeros((30, 40), np.uint8)])
    assert np.array_equal(stored(packed(pixels)), pixels[..., 2::-1])


def oriented(orientation: int) -> tuple[bytes, Encoded]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(smooth(30, 40)).save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue(), reencode(buffer.getvalue(), size=512, encode="png", quality=92)


def test_the_orientation_of_the_camera_is_applied() -> None:
    data, out = oriented(6)
    upright = np.asarray(Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_270))
    found = np.asarray(Image.open(io.BytesIO(out.data)))
    assert (out.width, out.height) == (30, 40)
    assert np.abs(found.astype(int) - upright).max() <= 4


@pytest.mark.parametrize("encode", ["jpeg", "png"])
def test_no_metadata_of_the_source_is_stored(encode: str) -> None:
    exif, note = Image.Exif(), PngInfo()
    exif[0x010E] = "JANE DOE 1950-01-01"
    note.add_text("patient", "JANE DOE 1950-01-01")
    for kind, rest in (("JPEG", {"exif": exif, "comment": b"JANE DOE"}), ("PNG", {"pnginfo": note})):
        buffer = io.BytesIO()
        Image.fromarray(smooth(30, 40)).save(buffer, kind, **rest)
        assert b"JANE" in buffer.getvalue()
        assert b"JANE" not in reencode(buffer.getvalue(), size=512, encode=encode, quality=92).data


def test_an_empty_file_is_told() -> None:
    assert refused(b"") == "the file is empty (zero bytes)"


def test_a_text_with_an_image_name_is_told() -> None:
    assert refused(b"<html>404 not found</html>") == "the content is no image, whatever the name says"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_anywhere_is_refused(suffix: str, share: float) -> None:
    data = packed(smooth(100, 120), suffix)
    refused(data[: int(len(data) * share)])


def test_a_jpeg_without_its_last_two_bytes_is_refused() -> None:
    assert refused(packed(smooth(60, 60), ".jpg")[:-2]) == "cut-off JPEG: no end-of-image marker"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    data = packed(smooth(60, 60), ".jpg")
    thumbnail = b"Exif\0\0" + packed(smooth(8, 8), ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert stored(whole).shape == (60, 60, 3)
    assert refused(whole[: len(whole) * 3 // 4]) == "cut-off JPEG: no end-of-image marker"


@pytest.mark.parametrize("progressive", [0, 1])
def test_bytes_after_the_end_of_a_jpeg_do_no_harm(progressive: int) -> None:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    done, data = cv2.imencode(".jpg", smooth(60, 60), options)
    assert done
    assert stored(data.tobytes() + bytes(100)).shape == (60, 60, 3)


def test_a_flipped_bit_in_a_png_is_refused() -> None:
    data = bytearray(packed(smooth(60, 60)))
    data[len(data) // 2] ^= 1
    assert refused(bytes(data)).startswith("damaged PNG: crc of chunk b'IDAT'")


def test_every_suffix_that_adapters_take_can_be_read(tmp_path: Path) -> None:
    for suffix in (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp"):
        assert stored(image(tmp_path / f"a{suffix}").read_bytes()).shape == (20, 24, 3)
