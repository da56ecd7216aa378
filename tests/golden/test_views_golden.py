"""Draws and pixels of views, kept per version of the views."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from infra.digest import sha256_bytes
from models.augmentation.draws import VERSION, Draw, ViewRecipe, draw, mixture, partners
from models.augmentation.rendering import mix, render
from tests.golden.guard import check

RECIPES = {"default": ViewRecipe(48), "everything": ViewRecipe(48, vflip=True, rotate=180.0, hue=0.5)}
MIXING = {"mixup": ViewRecipe(48, mix="mixup", mix_alpha=0.4), "cutmix": ViewRecipe(48, mix="cutmix", mix_share=0.7)}
KEYS = ("a", "patient-17_left", "0f3b")


def formula_image(height: int, width: int) -> np.ndarray:
    """An image that integer arithmetic alone decides."""
    y, x = np.indices((height, width))
    return np.stack([(x * 3 + y) % 256, (x * x // 50 + y * 2) % 256, (x + y * y // 30) % 256], -1).astype(np.uint8)


def _numbers(drawn: Draw) -> dict[str, Any]:
    return {name: value for name, value in asdict(drawn).items() if name != "seed"}


def test_draws_are_those_of_this_version() -> None:
    value = {
        name: {
            "recipe": recipe.recipe_id,
            "plain": recipe.view_id(0),
            "draws": {f"{key}/{view}": _numbers(draw(recipe, view, key)) for key in KEYS for view in (0, 1, 4)},
        }
        for name, recipe in RECIPES.items()
    }
    check("views", VERSION, value)


def test_mixtures_are_those_of_this_version() -> None:
    many = [f"key-{number}" for number in range(21)]
    value = {
        name: {
            "recipe": recipe.recipe_id,
            "partners": {
                view: found.tolist() for view in (1, 4) if (found := partners(recipe, view, many)) is not None
            },
            "mixtures": {f"{key}/{view}": asdict(mixture(recipe, view, key, "z")) for key in KEYS for view in (1, 4)},
        }
        for name, recipe in MIXING.items()
    }
    check("views-mixing", VERSION, value)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="pixels are kept for x86-64 alone")
def test_pixels_are_those_of_this_version() -> None:
    images = {"same": formula_image(48, 48), "large": formula_image(300, 410), "small": formula_image(30, 40)}
    value = {
        f"{name}/{kind}/{view}": sha256_bytes(render(image, recipe, draw(recipe, view, "a")).tobytes())
        for name, recipe in RECIPES.items()
        for kind, image in images.items()
        for view in (0, 1, 4)
    }
    check("views-pixels", VERSION, value)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="pixels are kept for x86-64 alone")
def test_mixed_pixels_are_those_of_this_version() -> None:
    own, other = formula_image(48, 48), formula_image(300, 410)
    value = {}
    for name, recipe in MIXING.items():
        pictures = [render(image, recipe, draw(recipe, 1, key)) for image, key in ((own, "a"), (other, "b"))]
        value[name] = sha256_bytes(mix(*pictures, mixture(recipe, 1, "a", "b")).tobytes())
    check("views-mixed-pixels", VERSION, value)
