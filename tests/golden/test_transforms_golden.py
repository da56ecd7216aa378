"""Pixels of listed transforms, kept per version of the views: a dozen leaves, compositions, threads, a second process.

Their draws come from numpy's and Python's generators, and their pixels from albumentations, albucore and OpenCV. Where
an upgrade of one of them moves a digest here, views that are stored no longer are those that would be rendered.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.digest import sha256_bytes
from models.augmentation.draws import VERSION, ViewRecipe, draw
from models.augmentation.rendering import render
from models.augmentation.transforms import texts
from tests.golden.guard import check
from tests.golden.test_views_golden import formula_image

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="pixels are kept for x86-64 alone")

LEAVES = (
    "HorizontalFlip",
    "ShiftScaleRotate",
    "ElasticTransform",
    "GridDistortion",
    "Perspective",
    "CoarseDropout",
    "CLAHE",
    "RandomBrightnessContrast",
    "RandomGamma",
    "HueSaturationValue",
    "GaussNoise",
    "ISONoise",
    "MotionBlur",
    "GaussianBlur",
    "Sharpen",
    "ImageCompression",
)
COMPOSED: dict[str, list[Any]] = {
    "OneOf": [{"OneOf": {"transforms": ["MotionBlur", {"GaussianBlur": {"p": 0.2}}, "MedianBlur"], "p": 0.9}}],
    "SomeOf": [{"SomeOf": {"transforms": ["RandomGamma", "CLAHE", "GaussNoise", "Sharpen"], "n": 2}}],
    "RandomOrder": [{"RandomOrder": {"transforms": ["VerticalFlip", "RandomRotate90", "Transpose"], "n": 2}}],
    "Sequential": [{"Sequential": {"transforms": ["HorizontalFlip", {"OneOf": ["Blur", "Emboss"]}], "p": 0.8}}],
    "list": ["HorizontalFlip", {"CLAHE": {"clip_limit": [1, 3]}}, "GaussNoise", "CoarseDropout", "ImageCompression"],
}
LISTS: dict[str, list[Any]] = {**{name: [{name: {"p": 1}}] for name in LEAVES}, **COMPOSED}


def digest(name: str, view: int) -> str:
    """sha256 of one view of a picture that integers decide."""
    recipe = ViewRecipe(48, transforms=texts(LISTS[name]))
    return sha256_bytes(render(formula_image(90, 120), recipe, draw(recipe, view, "a")).tobytes())


def digests(threads: int) -> dict[str, str]:
    names = [(name, view) for name in LISTS for view in (1, 2, 5)]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda each: digest(*each), names))
    return {f"{name}/{view}": value for (name, view), value in zip(names, found, strict=True)}


def test_transformed_pixels_are_those_of_this_version() -> None:
    check("views-transforms", VERSION, digests(1))


def test_threads_make_the_pixels_of_this_version() -> None:
    check("views-transforms", VERSION, digests(6))


def test_another_process_makes_the_pixels_of_this_version() -> None:
    root = Path(__file__).parents[2]
    call = "import json; from tests.golden.test_transforms_golden import digests; print(json.dumps(digests(2)))"
    # Another seed of hashes than this process has, for an order of a set would show.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", call], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    check("views-transforms", VERSION, json.loads(run.stdout))
