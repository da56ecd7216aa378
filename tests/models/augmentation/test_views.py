"""Views: replayed exactly, anti-aliased, and plain where they must be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.augmentation.draws import Draw, ViewRecipe, draw
from models.augmentation.rendering import decode, render, to_input
from models.augmentation.view_numbers import FIRST_UNSTORED, epoch_view, unstored_view

PLAIN_COLOUR = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
STILL = ViewRecipe(32, (1.0, 1.0), (1.0, 1.0), hflip=False, rotate=0.0, **PLAIN_COLOUR)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 90, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 1.5 - 64, 0, 255).astype(np.uint8)


@given(st.text(max_size=20), st.integers(1, 50))
def test_draw_stays_within_the_recipe(key: str, view: int) -> None:
    recipe = ViewRecipe(96, vflip=False, hue=0.05)
    drawn = draw(recipe, view, key)
    assert 0.6 <= drawn.area <= 1.0
    assert 0.8 <= drawn.ratio <= 1.25
    assert abs(drawn.angle) <= 15.0
    assert abs(drawn.brightness - 1) <= 0.15
    assert abs(drawn.hue) <= 0.05
    assert not drawn.flip_y


def test_draw_depends_on_recipe_view_and_key_alone() -> None:
    recipe = ViewRecipe(96)
    first = draw(recipe, 1, "a")
    others = [draw(recipe, 2, "a"), draw(recipe, 1, "b"), draw(replace(recipe, rotate=16.0), 1, "a")]
    assert first not in others
    assert draw(ViewRecipe(96), 1, "a") == first


def test_draws_spread_over_their_range() -> None:
    angles = [draw(ViewRecipe(96), 1, str(key)).angle for key in range(2000)]
    assert abs(np.mean(angles)) < 1.0
    assert abs(np.std(angles) - 30 / np.sqrt(12)) < 0.5


def test_flips_happen_for_half_of_the_keys_when_allowed() -> None:
    flips = [draw(ViewRecipe(96), 1, str(key)).flip_x for key in range(1000)]
    assert 430 < sum(flips) < 570
    assert not any(draw(ViewRecipe(96, hflip=False), 1, str(key)).flip_x for key in range(1000))


def test_recipe_id_ignores_the_number_of_views_and_number_types() -> None:
    values = {"size": 96, "rotate": 15, "crop_scale": [0.6, 1]}
    assert ViewRecipe.from_values({**values, "count": 4}).recipe_id == ViewRecipe(96).recipe_id
    assert ViewRecipe(96).recipe_id != ViewRecipe(97).recipe_id


def test_plain_view_is_identified_by_its_size_alone() -> None:
    turned = ViewRecipe(96, rotate=90.0)
    assert turned.view_id(0) == ViewRecipe(96).view_id(0) != ViewRecipe(64).view_id(0)
    assert turned.view_id(1) != ViewRecipe(96).view_id(1)


def test_crop_scale_beyond_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop_scale ends at 1\.5"):
        ViewRecipe(96, crop_scale=(0.5, 1.5))


def test_negative_view_is_refused() -> None:
    with pytest.raises(ValueError, match="view -1 of k"):
        draw(ViewRecipe(96), -1, "k")


def test_epochs_cycle_through_stored_views_from_the_plain_one_on() -> None:
    assert [epoch_view(epoch, 3) for epoch in range(6)] == [0, 1, 2, 3, 0, 1]
    assert epoch_view(7, 0) == 0


@pytest.mark.parametrize("plain", [True, False])
def test_views_of_trainings_without_stored_labels_are_never_stored(plain: bool) -> None:
    seen = [unstored_view(epoch, 3, plain=plain) for epoch in range(6)]
    new = [FIRST_UNSTORED + epoch for epoch in range(6)]
    assert seen == ([0, *new[1:4], 0, new[5]] if plain else new)
    assert unstored_view(2, 0, plain=plain) == 0


def test_view_zero_is_the_area_averaged_centre_square() -> None:
    image = photograph(60, 100)
    view = render(image, ViewRecipe(20), draw(ViewRecipe(20), 0, "k"))
    blocks = image[:, 20:80].reshape(20, 3, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(view - blocks).max() <= 0.51


def test_pixels_do_not_depend_on_order_or_thread() -> None:
    recipe = ViewRecipe(48, hue=0.1)
    images = {f"k{n}": photograph(80, 120, n) for n in range(12)}

    def one(key: str) -> np.ndarray:
        return render(images[key], recipe, draw(recipe, 1, key))

    alone = [one(key) for key in images]
    with ThreadPoolExecutor(4) as pool:
        crowd = list(pool.map(one, reversed(list(images))))[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(alone, crowd, strict=True))


def test_still_draw_returns_the_image() -> None:
    image = photograph(32, 32)
    assert np.array_equal(render(image, STILL, Draw(plain=False)), image)


def test_mirror_is_exact() -> None:
    image = photograph(32, 32)
    assert np.array_equal(render(image, STILL, Draw(plain=False, flip_x=True)), image[:, ::-1])
    assert np.array_equal(render(image, STILL, Draw(plain=False, flip_y=True)), image[::-1])


def test_quarter_turn_is_exact() -> None:
    image = photograph(32, 32)
    assert np.array_equal(render(image, STILL, Draw(plain=False, angle=90.0)), np.rot90(image))


def test_crop_takes_the_corner_that_was_drawn() -> None:
    image = photograph(64, 64)
    assert np.array_equal(render(image, STILL, Draw(plain=False, area=0.25, x=0.0, y=1.0)), image[32:, :32])


def test_crop_that_does_not_fit_keeps_its_ratio() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    wide = render(stripes, STILL, Draw(plain=False, area=1.0, ratio=4.0))
    assert wide.shape == (32, 32, 3)
    # 64 x 16 of the image: its eight stripes stand in the view as eight.
    assert (np.diff((wide[0, :, 0] > 60).astype(int)) == 1).sum() in (7, 8)


def test_strong_shrinking_does_not_alias() -> None:
    pixels = np.indices((640, 640)).sum(axis=0) % 2 * 255
    image = np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)
    still = ViewRecipe(32, rotate=15.0, **PLAIN_COLOUR)
    for key in range(10):
        view = render(image, still, draw(still, 1, str(key)))
        # One-pixel checks have no detail at this scale: what is not even grey was made by sampling.
        assert np.abs(view[2:-2, 2:-2].astype(int) - 128).max() <= 24


def test_shrunk_crop_agrees_with_an_area_resize() -> None:
    image = cv2.GaussianBlur(photograph(400, 400), (0, 0), 4)
    view = render(image, STILL, Draw(plain=False, area=0.25, x=0.5, y=0.5))
    ideal = cv2.resize(image[100:300, 100:300], (32, 32), interpolation=cv2.INTER_AREA)
    # Half a pixel of the view (3 of the image) off would make it 2.6.
    assert np.abs(view.astype(int) - ideal).mean() < 1


@pytest.mark.parametrize("height", [70, 80, 90, 100, 110])
def test_a_shrunk_view_has_the_detail_of_an_area_average(height: int) -> None:
    side = 48
    image = photograph(height, height)
    noise = np.random.default_rng(1).integers(0, 256, image.shape)
    image = np.clip(image * 0.7 + noise * 0.3, 0, 255).astype(np.uint8)
    view = render(image, replace(STILL, size=side), Draw(plain=False)).astype(float)
    ideal = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(float)
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in (view, ideal)]
    assert 0.82 < detail[0] / detail[1] < 1.1
    # An area reduction that stops at 1.25 pixels before the warp is off by 0.2.
    assert np.abs(view - ideal).mean() < 0.15 * ideal.std()


def test_the_last_pixels_of_an_image_are_shown_where_blocks_do_not_fit() -> None:
    image = np.zeros((331, 331, 3), np.uint8)
    image[:, 300:] = 255
    view = render(image, replace(STILL, size=48), Draw(plain=False))
    # The edge lies at 300 / 331 of the view, 43.5 pixels.
    assert (view[24, :43, 0] < 30).all()
    assert (view[24, 45:, 0] > 225).all()


def test_grey_stays_grey_under_saturation_and_hue() -> None:
    grey = np.repeat(photograph(32, 32)[..., :1], 3, axis=2)
    view = render(grey, STILL, Draw(plain=False, saturation=1.3, hue=0.2))
    assert np.abs(view.astype(int) - grey).max() <= 1


def test_brightness_scales_and_clips() -> None:
    view = render(np.full((32, 32, 3), (40, 100, 200), np.uint8), STILL, Draw(plain=False, brightness=1.5))
    assert view[5, 5].tolist() == [60, 150, 255]


def test_contrast_turns_around_the_mean_grey() -> None:
    image = np.full((32, 32, 3), 50, np.uint8)
    image[:16] = 150
    view = render(image, STILL, Draw(plain=False, contrast=0.5))
    assert sorted({int(v) for v in view.ravel()}) == [75, 125]


def test_half_a_turn_of_hue_swaps_warm_and_cold() -> None:
    view = render(np.full((32, 32, 3), (140, 120, 100), np.uint8), STILL, Draw(plain=False, hue=0.5))
    assert view[5, 5, 0] < view[5, 5, 1] < view[5, 5, 2]


def test_render_refuses_what_is_not_an_rgb_image() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\] image, got uint8 \[8, 8\]"):
        render(np.zeros((8, 8), np.uint8), STILL, Draw())


def test_to_input_normalises_in_channels_last_memory() -> None:
    views = np.full((2, 8, 8, 3), 127, np.uint8)
    views[1, ..., 2] = 255
    x = to_input(views, 4, (127 / 255,) * 3, (128 / 255,) * 3)
    assert x.shape == (2, 3, 4, 4)
    assert x.dtype == np.float32
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous
    assert np.abs(x[0]).max() < 1e-6
    assert np.allclose(x[1, 2], 1.0)


def test_decode_reads_rgb_and_refuses_the_rest() -> None:
    image = photograph(20, 30)
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    assert np.array_equal(decode(png), image)
    for data in (b"", b"not an image", png[:20]):
        with pytest.raises(ValueError, match="not an image"):
            decode(data)
