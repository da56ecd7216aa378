"""Listed transforms: replayed exactly, drawn independently, one pipeline a thread."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.augmentation import transforms as module
from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import render
from models.augmentation.transforms import Pipeline, listed, texts, transform

GRADIENT = np.stack([*np.indices((48, 48)) * 5, np.full((48, 48), 128)], -1).astype(np.uint8)
BUSY = texts(
    [
        {"ElasticTransform": {"p": 1}},
        {"GaussNoise": {"p": 1}},
        {"OneOf": {"transforms": ["MotionBlur", "RandomGamma", "GridDistortion"], "p": 0.9}},
        {"CoarseDropout": {"fill": "random", "p": 0.7}},
    ]
)


def made(transforms: tuple[str, ...], seed: str) -> np.ndarray:
    return transform(GRADIENT.copy(), transforms, seed)


def flipped(transforms: tuple[str, ...], seed: str) -> tuple[bool, bool]:
    """Whether left and right, and up and down, are the other way round."""
    corner = made(transforms, seed)[0, 0]
    return bool(corner[1] > 100), bool(corner[0] > 100)


def test_one_list_is_written_in_several_ways() -> None:
    short = ["Blur", {"OneOf": ["Blur", {"CLAHE": None}]}]
    long = [{"Blur": {}}, {"OneOf": {"transforms": [{"Blur": {}}, {"CLAHE": {}}]}}]
    assert listed(short) == long
    assert listed(long) == long
    assert texts(short) == texts(long)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([3], "0: write a transform as its name"),
        (["Blur", {"Blur": 3}], "1: Blur takes"),
        ([{"OneOf": ["Blur", {"SomeOf": {"n": 1}}]}], "0.OneOf.1: SomeOf needs `transforms`"),
        ([{"Blur": {"p": float("nan")}}], "no number"),
        ([{"Blur": {"p": {1}}}], "no number"),
    ],
)
def test_what_is_no_list_of_transforms_is_refused(items: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        texts(items)


def test_pixels_depend_on_the_list_and_the_seed_alone() -> None:
    assert np.array_equal(made(BUSY, "a"), made(BUSY, "a"))
    assert not np.array_equal(made(BUSY, "a"), made(BUSY, "b"))


def test_pixels_do_not_depend_on_what_a_pipeline_made_before() -> None:
    names = [f"view {number}" for number in range(40)]
    used = Pipeline(BUSY)
    backwards = [used(GRADIENT.copy(), name) for name in reversed(names)][::-1]
    assert all(np.array_equal(Pipeline(BUSY)(GRADIENT.copy(), n), b) for n, b in zip(names, backwards, strict=True))


def test_threads_make_the_pixels_of_one_thread() -> None:
    names = [f"view {number}" for number in range(400)]
    alone = [made(BUSY, name) for name in names]
    with ThreadPoolExecutor(8) as pool:
        crowd = list(pool.map(lambda name: made(BUSY, name), names))
    assert all(np.array_equal(a, b) for a, b in zip(alone, crowd, strict=True))


def test_two_flips_happen_independently() -> None:
    both = texts([{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}])
    counts = np.zeros((2, 2))
    for number in range(2000):
        counts[tuple(int(flip) for flip in flipped(both, str(number)))] += 1
    # Four cells of 500; four standard deviations of one are 77.
    assert np.abs(counts - 500).max() < 77


def test_the_children_of_a_composition_draw_independently() -> None:
    gates = {"transforms": [{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}], "p": 1}
    found = [flipped(texts([{"Sequential": gates}]), str(number)) for number in range(2000)]
    assert 423 < sum(across and not down for across, down in found) < 577


def test_a_transform_draws_the_same_whatever_those_before_it_draw() -> None:
    flip: dict[str, Any] = {"HorizontalFlip": {"p": 0.5}}
    still = texts([{"NoOp": {"p": 0.5}}, flip])
    noisy = texts([{"GaussNoise": {"std_range": [0.001, 0.002], "p": 0.5}}, flip])
    names = [str(number) for number in range(50)]
    assert [flipped(still, name) for name in names] == [flipped(noisy, name) for name in names]


def test_one_of_chooses_in_proportion_to_p() -> None:
    either = texts([{"OneOf": {"transforms": [{"HorizontalFlip": {"p": 0.9}}, {"VerticalFlip": {"p": 0.3}}], "p": 1}}])
    found = [flipped(either, str(number)) for number in range(1000)]
    assert 690 < sum(across for across, _ in found) < 810
    assert all(across != down for across, down in found)


def test_a_name_of_opencv_stands_for_its_constant() -> None:
    affine = {"translate_px": {"x": 9, "y": 0}, "p": 1}
    by_name = texts([{"Affine": {**affine, "border_mode": "cv2.BORDER_REPLICATE"}}])
    by_number = texts([{"Affine": {**affine, "border_mode": 1}}])
    assert not np.array_equal(made(by_name, "a"), made(texts([{"Affine": affine}]), "a"))
    assert np.array_equal(made(by_name, "a"), made(by_number, "a"))


def test_views_end_with_the_transforms_and_the_plain_view_has_none() -> None:
    bare = ViewRecipe(48)
    recipe = replace(bare, transforms=texts([{"InvertImg": {"p": 1}}]))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert np.array_equal(render(image, recipe, draw(recipe, 0, "k")), render(image, bare, draw(bare, 0, "k")))
    numbers = replace(draw(recipe, 1, "k"), seed="")
    assert np.array_equal(render(image, recipe, draw(recipe, 1, "k")), 255 - render(image, bare, numbers))


def test_views_and_images_draw_apart() -> None:
    recipe = ViewRecipe(48, transforms=BUSY)
    assert len({draw(recipe, view, key).seed for view in (1, 2) for key in "ab"}) == 4


def test_the_list_and_both_versions_are_part_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ViewRecipe(48, transforms=BUSY)
    ids = {ViewRecipe(48).recipe_id, recipe.recipe_id, replace(recipe, transforms=BUSY[:1]).recipe_id}
    for library in module.LIBRARIES:
        with monkeypatch.context() as patch:
            patch.setitem(module.LIBRARIES, library, "9")
            ids.add(ViewRecipe(48, transforms=BUSY).recipe_id)
    assert len(ids) == 5


def test_transforms_leave_the_plain_view_as_it_is() -> None:
    assert ViewRecipe(48, transforms=BUSY).view_id(0) == ViewRecipe(48).view_id(0)


def test_a_recipe_comes_from_a_section_with_transforms() -> None:
    values = {"size": 48, "count": 4, "allow": ["hue"], "libraries": {}, "transforms": [json.loads(t) for t in BUSY]}
    assert ViewRecipe.from_values(values) == ViewRecipe(48, transforms=BUSY)


def test_a_list_that_changes_the_size_after_all_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"gave uint8 \[96, 96, 3\] for view a, not uint8 \[48, 48, 3\]"):
        made(texts([{"PadIfNeeded": {"min_height": 96, "min_width": 96, "p": 1}}]), "a")


def test_a_transform_that_fails_names_itself_and_the_view() -> None:
    with pytest.raises(RuntimeError, match="MaskDropout failed on view a"):
        made(texts([{"MaskDropout": {"p": 1}}]), "a")
