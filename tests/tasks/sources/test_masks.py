"""Masks beside images are none of the corpus; pictures that only sound like masks are."""

from __future__ import annotations

import pytest

from tasks.sources.masks import masks_among, masks_note


@pytest.mark.parametrize(
    ("paths", "masks"),
    [
        (["a/images/1.png", "a/masks/1.png"], {"a/masks/1.png"}),
        (["a/1.jpg", "a/mask/1.png"], {"a/mask/1.png"}),
        (["a/images/1.jpg", "a/masks/1_mask.png"], {"a/masks/1_mask.png"}),
        (["a/b (1).png", "a/b (1)_mask.png", "a/b (1)_mask_1.png"], {"a/b (1)_mask.png", "a/b (1)_mask_1.png"}),
        (["Ground Truth/9.tif", "Original/9.tif"], {"Ground Truth/9.tif"}),
        # Without the image of its name a picture is no mask of it.
        (["a/images/1.png", "a/masks/2.png"], set()),
        (["a/images/1.png", "b/masks/1.png"], set()),
        (["a/2_mask.png", "b/2.png"], set()),
        (["with_mask/1.png", "without_mask/1.png"], set()),
        (["masks/1.png", "masks/2.png"], set()),
        ([], set()),
    ],
)
def test_a_mask_has_the_name_of_an_image_beside_it(paths: list[str], masks: set[str]) -> None:
    assert masks_among(paths) == masks


def test_masks_are_counted_in_a_note() -> None:
    assert masks_note(["a/1.png", "a/1_mask.png"]) == ["1 masks beside images of the same names are passed over"]
    assert masks_note(["a/1.png"]) == []
