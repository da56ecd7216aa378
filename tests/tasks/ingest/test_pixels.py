"""From source bytes to stored bytes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks.ingest.pixels import ImageRecipe, encode_image, hash_image
from tasks.preprocessing.crop import Box
from tasks.preprocessing.unreadable import UnreadableError
from tests.tasks.corpora.layouts import image
from tests.tasks.ingest.pictures import PLAIN, noisy, packed, saved, smooth, tagged, unpacked


def stored(data: bytes, size: int = 512) -> np.ndarray:
    return unpacked(encode_image(data, replace(PLAIN, size=size)).data)


def test_the_shorter_side_becomes_the_size() -> None:
    assert stored(packed(smooth(60, 90)), size=20).shape == (20, 30, 3)


def test_nothing_is_enlarged() -> None:
    assert stored(packed(smooth(60, 90)), size=100).shape == (60, 90, 3)


def test_without_a_size_the_picture_stays_as_large_as_it_is() -> None:
    out = encode_image(packed(smooth(60, 90)), replace(PLAIN, size=None))
    assert unpacked(out.data).shape == (60, 90, 3)


def test_pixels_that_need_no_resize_stay_as_they_are() -> None:
    pixels = smooth(30, 40)
    assert np.array_equal(stored(packed(pixels)), pixels[..., ::-1])


def test_the_resize_is_by_area() -> None:
    pixels = smooth(60, 90)
    wanted = cv2.resize(pixels, (30, 20), interpolation=cv2.INTER_AREA)
    assert np.array_equal(stored(packed(pixels), size=20), wanted[..., ::-1])


def test_reduced_decoding_looks_like_full_decoding() -> None:
    data = packed(smooth(400, 600), ".jpg")
    full = cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), 1), (75, 50), interpolation=cv2.INTER_AREA)
    assert np.abs(stored(data, size=50).astype(int) - full[..., ::-1]).mean() < 1.5


@pytest.mark.parametrize("size", [49, 50, 51, 100, 101, 200, 201, 400])
def test_reduced_decoding_never_costs_size(size: int) -> None:
    assert min(stored(packed(smooth(400, 600), ".jpg"), size=size).shape[:2]) == size


@pytest.mark.parametrize(("encode", "ext"), [("jpeg", "jpg"), ("png", "png")])
def test_the_source_size_and_the_extension_are_reported(encode: Literal["jpeg", "png"], ext: str) -> None:
    out = encode_image(packed(smooth(400, 600), ".jpg"), replace(PLAIN, size=50, encode=encode))
    assert (out.width, out.height, out.ext, out.cropped) == (600, 400, ext, False)


def test_a_better_quality_takes_more_bytes() -> None:
    data = packed(smooth(60, 60))
    low, high = (encode_image(data, replace(PLAIN, encode="jpeg", quality=quality)).data for quality in (30, 95))
    assert len(low) < len(high)


def test_a_recipe_travels_as_a_plain_dict_and_as_a_pickle() -> None:
    plain = {"size": 64, "encode": "jpeg", "quality": 90, "crop": "fundus", "max_pixels": 1000}
    recipe = ImageRecipe(**plain)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_source_size_is_reported_as_it_is_looked_at(orientation: int) -> None:
    data = saved(Image.fromarray(smooth(1004, 1008)), "JPEG", exif=tagged(orientation))
    out = encode_image(data, replace(PLAIN, size=64))
    assert (out.width, out.height) == ((1008, 1004) if orientation < 5 else (1004, 1008))


@pytest.mark.parametrize("encode", ["jpeg", "png"])
def test_no_metadata_of_the_source_is_stored(encode: Literal["jpeg", "png"]) -> None:
    note = PngInfo()
    note.add_text("patient", "JANE DOE 1950-01-01")
    for kind, rest in (("JPEG", {"exif": tagged(6), "comment": b"JANE DOE"}), ("PNG", {"pnginfo": note})):
        data = saved(Image.fromarray(smooth(30, 40)), kind, **rest)
        assert b"JANE" in data
        assert b"JANE" not in encode_image(data, replace(PLAIN, encode=encode)).data


def test_every_suffix_that_adapters_take_can_be_read(tmp_path: Path) -> None:
    for suffix in (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp"):
        assert stored(image(tmp_path / f"a{suffix}").read_bytes()).shape == (20, 24, 3)


def disc(height: int, width: int, radius: float) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    field = np.hypot(*np.ogrid[-height / 2 : height / 2, -width / 2 : width / 2]) < radius
    pixels[field] = smooth(height, width, seed=3)[field] // 2 + 100
    return pixels


def test_a_fundus_crop_is_a_square_of_the_size() -> None:
    data = packed(disc(600, 900, 280), ".jpg")
    out = encode_image(data, replace(PLAIN, size=128, crop="fundus"))
    assert unpacked(out.data).shape == (128, 128, 3)
    assert (out.width, out.height, out.cropped) == (900, 600, True)


def test_a_small_field_of_view_is_decoded_again_at_a_larger_scale() -> None:
    # Decoded for the whole frame, a field of 480 of 1200 pixels would have 120 pixels for 200 wanted.
    data = packed(disc(1200, 1400, 240), ".jpg")
    found = unpacked(encode_image(data, replace(PLAIN, size=200, crop="fundus")).data)
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    wanted = Box(460 / 1400, 360 / 1200, 940 / 1400, 840 / 1200, square=True).cut(whole)
    wanted = cv2.resize(wanted, (200, 200), interpolation=cv2.INTER_AREA)
    assert found.shape == (200, 200, 3)
    assert np.abs(found[40:160, 40:160].astype(int) - wanted[40:160, 40:160]).mean() < 4


def test_a_crop_that_finds_nothing_keeps_the_whole_frame() -> None:
    out = encode_image(packed(smooth(60, 90)), replace(PLAIN, size=20, crop="fundus"))
    assert (unpacked(out.data).shape, out.cropped) == ((20, 30, 3), False)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"size": 100},
        {"size": 100, "encode": "jpeg", "quality": 20},
        {"size": None, "encode": "keep"},
        {"size": 100, "crop": "endoscopy"},
        {"size": 100, "mask": [[(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)]]},
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_hash_alone_is_that_of_the_picture_that_is_stored(suffix: str, changed: dict[str, Any]) -> None:
    framed = cv2.copyMakeBorder(noisy(700, 900), 60, 60, 90, 90, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    data, recipe = packed(framed, suffix), replace(PLAIN, **changed)
    assert hash_image(data, recipe) == encode_image(data, recipe).phash


def test_the_hash_of_deep_samples_is_that_of_the_bits_in_use() -> None:
    deep = smooth(120, 160)[..., 0].astype(np.uint16) * 8
    data = packed(deep)
    assert hash_image(data, PLAIN) == encode_image(data, replace(PLAIN, bits=11)).phash
    assert hash_image(data, replace(PLAIN, bits=12)) == encode_image(data, replace(PLAIN, bits=12)).phash


def test_what_cannot_be_stored_has_no_hash() -> None:
    with pytest.raises(UnreadableError, match="cut-off JPEG"):
        hash_image(packed(smooth(60, 90), ".jpg")[:-50], PLAIN)
