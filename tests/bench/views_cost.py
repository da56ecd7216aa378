"""What rendering one view costs: our own, our own with listed transforms, and albumentations doing all of it.

Pictures of 512 x 683 px, views of 224 px, one thread, all contenders in turn in every round. The last two crop, turn,
mirror and recolour as our own recipe does, by albumentations alone, which shrinks before it turns: by averaging areas,
or bilinearly as is its default, which aliases.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np

from models.augmentation.draws import Draw, ViewRecipe, draw
from models.augmentation.rendering import render
from models.augmentation.transform_checks import check
from models.augmentation.transforms import Pipeline, library, listed, texts
from tasks.corpora.phantom.fundus import draw_fundus

SIDE, HEIGHT, WIDTH, PICTURES = 224, 512, 683, 8

LIGHT: list[Any] = ["RandomGamma", "VerticalFlip", {"CoarseDropout": {"p": 1}}]
ORDINARY: list[Any] = [
    {"ShiftScaleRotate": {"p": 0.5}},
    {"CLAHE": {"clip_limit": [1, 3], "p": 0.5}},
    {"OneOf": ["MotionBlur", {"GaussianBlur": {"blur_limit": [3, 5]}}]},
    {"GaussNoise": {"p": 0.3}},
    {"ImageCompression": {"quality_range": [60, 95], "p": 0.5}},
    "CoarseDropout",
]
TEN: list[Any] = [
    *ORDINARY,
    "HorizontalFlip",
    "RandomGamma",
    {"Sharpen": {"p": 0.2}},
    {"SomeOf": {"n": 1, "transforms": ["GridDistortion", "ElasticTransform"], "p": 0.3}},
]


def costs(*, rounds: int) -> dict[str, float]:
    """Milliseconds by contender, medians over rounds: of a view, of its seeding, of checking the list once."""
    pictures = _pictures()
    bare = ViewRecipe(SIDE)
    contenders: dict[str, Callable[[np.ndarray, str], Any]] = {
        "plain": lambda picture, _: render(picture, bare, Draw()),
        "ours": _ours(bare),
        "ours, 3 light": _ours(ViewRecipe(SIDE, transforms=texts(LIGHT))),
        "ours, 6 ordinary": _ours(ViewRecipe(SIDE, transforms=texts(ORDINARY))),
        "ours, 10": _ours(ViewRecipe(SIDE, transforms=texts(TEN))),
        "albumentations, area": _theirs(cv2.INTER_AREA),
        "albumentations, bilinear": _theirs(cv2.INTER_LINEAR),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for number in range(rounds + 1):
            for name, make in contenders.items():
                start = time.perf_counter()
                for place, picture in enumerate(pictures):
                    make(picture, f"{number}-{place}")
                taken[name].append((time.perf_counter() - start) / len(pictures) * 1e3)
    finally:
        cv2.setNumThreads(threads)
    found = {name: round(median(own[1:]), 3) for name, own in taken.items()}  # the first builds pipelines
    return {**found, "seeding 10": _seeding(rounds), "checking 10, once": _checking()}


def table(found: dict[str, float]) -> Sequence[Sequence[str]]:
    """Rows for people: contender, milliseconds, and their ratio to our own without transforms."""
    return [[name, f"{value:.2f}", f"{value / found['ours']:.2f}"] for name, value in found.items()]


def _ours(recipe: ViewRecipe) -> Callable[[np.ndarray, str], Any]:
    return lambda picture, key: render(picture, recipe, draw(recipe, 1, key))


def _theirs(interpolation: int) -> Callable[[np.ndarray, str], Any]:
    own, recipe = library(), ViewRecipe(SIDE)
    transforms = [
        own.RandomResizedCrop(
            size=(SIDE, SIDE), scale=recipe.crop_scale, ratio=recipe.crop_ratio, interpolation=interpolation, p=1
        ),
        own.HorizontalFlip(p=0.5),
        own.Rotate(limit=recipe.rotate, border_mode=cv2.BORDER_REFLECT_101, p=1),
        own.ColorJitter(
            brightness=recipe.brightness, contrast=recipe.contrast, saturation=recipe.saturation, hue=0, p=1
        ),
    ]
    for node in transforms:
        node.set_random_state(np.random.default_rng(0), random.Random(0))

    def make(picture: np.ndarray, _: str) -> Any:
        for node in transforms:
            picture = node(image=picture)["image"]
        return picture

    return make


def _pictures() -> list[np.ndarray]:
    found = []
    for number in range(PICTURES):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        left = (WIDTH - HEIGHT) // 2
        frame[:, left : left + HEIGHT] = draw_fundus(1, number + 1, "left", number % 5, HEIGHT)
        found.append(frame)
    return found


def _seeding(rounds: int) -> float:
    pipeline = Pipeline(texts(TEN))
    start = time.perf_counter()
    for number in range(100 * rounds):
        pipeline.reseed(str(number))
    return round((time.perf_counter() - start) / (100 * rounds) * 1e3, 3)


def _checking() -> float:
    start = time.perf_counter()
    check(listed(TEN), SIDE)
    return round((time.perf_counter() - start) * 1e3, 1)
