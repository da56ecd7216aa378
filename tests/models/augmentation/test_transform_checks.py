"""What may stand in a list of transforms, found by trying it."""

from __future__ import annotations

from typing import Any

import pytest

from models.augmentation.transform_checks import HUE, MIRROR, check, effects
from models.augmentation.transforms import listed


def checked(*items: Any, size: int = 64) -> None:
    check(listed(items), size)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("Blurr", "0: albumentations has no transform Blurr that a list may hold; did you mean Blur?"),
        ({"Blur": {"blur_limi": 3}}, "0: Blur has no parameter blur_limi; did you mean blur_limit?"),
        ({"OneOf": ["Blur", "Blurr"]}, r"0\.OneOf\.1: .*did you mean Blur\?"),
        ({"Blur": {"blur_limit": "wide"}}, r"Blur: blur_limit.*Input should be a valid.*\(got 'wide'\)"),
        ({"GridElasticDeform": {}}, "GridElasticDeform: num_grid_xy: Field required$"),
        ({"RandomRotate90": {"p": 2}}, "RandomRotate90.p is 2; a probability lies in 0 to 1"),
        ({"Blur": {"blur_limit": [3, 6]}}, "Blur: blur_limit: Non-zero kernel sizes must be odd"),
        ({"Affine": {"border_mode": "cv2.BORDER"}}, "Affine.border_mode: OpenCV has no constant cv2.BORDER"),
        ({"SomeOf": {"n": 3, "transforms": ["Blur"]}}, "SomeOf.n is 3, of 1 transforms"),
        ({"OneOf": {"p": 2, "transforms": ["Blur"]}}, "OneOf.p is 2"),
        ({"OneOf": [{"Blur": {"p": 0}}]}, "in proportion to its transforms' p, and all are 0"),
        ({"Resize": {"height": 64, "width": 64}}, "Resize changes the size; views.size decides it"),
        ({"RandomResizedCrop": {"size": [64, 64]}}, "RandomResizedCrop changes the size"),
        ({"PadIfNeeded": {"min_height": 64, "min_width": 64}}, r"gives \[64, 64, 3\] for \[61, 61, 3\]"),
        ("Normalize", "Normalize gives float32"),
        ("ToTensorV2", "ToTensorV2 gives a tensor"),
        ("FDA", "FDA needs fda_metadata beside the image"),
        ("MaskDropout", "MaskDropout needs mask beside the image"),
        ("ConstrainedCoarseDropout", "ConstrainedCoarseDropout fails .* Neither valid mask nor bboxes"),
        ("CubicSymmetry", "CubicSymmetry works on volumes"),
        ("Lambda", "Lambda reads a function or a file"),
        ("ToRGB", "ToRGB fails .* already an RGB"),
        ("ReplayCompose", "no transform ReplayCompose that a list may hold"),
    ],
)
def test_what_cannot_make_a_view_is_refused_with_the_reason(item: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(item)


def test_a_transform_is_tried_at_the_side_of_the_views() -> None:
    masked = {"XYMasking": {"num_masks_x": 1, "mask_x_length": 40}}
    checked(masked, size=64)
    with pytest.raises(ValueError, match="XYMasking fails on a picture of 16 x 16"):
        checked(masked, size=16)


def test_a_transform_that_would_rarely_run_is_tried_all_the_same() -> None:
    with pytest.raises(ValueError, match="MaskDropout needs mask"):
        checked({"Sequential": {"p": 0.001, "transforms": [{"MaskDropout": {"p": 0.001}}]}})


def test_ordinary_lists_pass() -> None:
    checked(
        "ShiftScaleRotate", {"SomeOf": {"n": 2, "transforms": ["CLAHE", "GaussNoise", "Erasing"]}}, "RandomRotate90"
    )


@pytest.mark.parametrize(
    ("item", "does"),
    [
        ("HorizontalFlip", {MIRROR}),
        ("VerticalFlip", {MIRROR}),
        ("D4", {MIRROR}),
        ("Transpose", {MIRROR}),
        ({"Affine": {"rotate": [-180, 180]}}, set()),
        ("RandomRotate90", set()),
        ("ElasticTransform", set()),
        ("HueSaturationValue", {HUE}),
        ({"HueSaturationValue": {"hue_shift_limit": 0}}, set()),
        ("ColorJitter", {HUE}),
        ({"ColorJitter": {"hue": 0}}, set()),
        ("ChannelShuffle", {HUE}),
        ("RGBShift", {HUE}),
        ("ToGray", {HUE}),
        ("InvertImg", {HUE}),
        ("CLAHE", set()),
        ("RandomBrightnessContrast", set()),
        ("RandomGamma", set()),
        ("GaussNoise", set()),
        ({"OneOf": ["Blur", {"Sequential": ["HorizontalFlip"]}]}, {MIRROR}),
        ({"HorizontalFlip": {"p": 0}}, set()),
    ],
)
def test_mirroring_and_hue_are_seen_in_what_a_transform_makes(item: Any, does: set[str]) -> None:
    assert {effect for effect, names in effects(listed([item])).items() if names} == does
