"""Recipes of replayed augmentation and their random draws (DESIGN: View).

A view is named by (recipe, number, key of the image) and nothing else: no generator is carried along, so
worker, order, batch and restart cannot change it. The numbers are the bytes of SHAKE-256 over that name; no
library upgrade can move them; numpy's and albumentations' generators promise no such thing. albumentations is
not used at all: it is no longer maintained, and replay, the point here, is what it does least.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

VERSION = 1
"""Version of draws and pixels together; part of every recipe id. Bump it when either moves."""

_SLOTS = (
    "area",
    "ratio",
    "x",
    "y",
    "flip_x",
    "flip_y",
    "angle",
    "brightness",
    "contrast",
    "saturation",
    "hue",
)


@dataclass(frozen=True)
class Recipe:
    """What a random view may do to an image; meanings and units as in the spec's `views:` section.

    How many views are stored is no part of it: raising the count keeps the views that there are.
    Raises ValueError for a value outside its range.
    """

    size: int  # side S of the rendered view in pixels
    crop_scale: tuple[float, float] = (0.6, 1.0)  # area, as a share of the largest centred square
    crop_ratio: tuple[float, float] = (0.8, 1.25)  # width / height of the crop
    hflip: bool = True
    vflip: bool = False
    rotate: float = 15.0  # largest turn in degrees, either way
    brightness: float = 0.15  # largest relative change; so the next two
    contrast: float = 0.15
    saturation: float = 0.1
    hue: float = 0.0  # largest turn of the colour circle; 0.5 is half

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio"):
            low, high = (float(value) for value in getattr(self, name))
            if not 0 < low <= high:
                raise ValueError(f"views.{name} is ({low}, {high}); it needs 0 < low <= high")
            object.__setattr__(self, name, (low, high))
        for name in ("rotate", "brightness", "contrast", "saturation", "hue"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.crop_scale[1] > 1:
            raise ValueError(f"views.crop_scale ends at {self.crop_scale[1]}; a crop is at most the whole, 1")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a `views:` section given as plain values; `count` is left out."""
        return cls(**{name: value for name, value in values.items() if name != "count"})

    @cached_property
    def recipe_id(self) -> str:
        """sha256 of the version and the canonical values."""
        return _digest(["views", VERSION, asdict(self)])

    def view_id(self, view: int) -> str:
        """Identity of one numbered view: `recipe_id`, but for the plain view what it depends on, its size.

        Another rotation or colour change therefore costs no teacher a new pass over plain views.
        """
        return self.recipe_id if view else _digest(["views", VERSION, "plain", self.size])


@dataclass(frozen=True)
class Draw:
    """The random numbers of one view of one image; the defaults are the plain view."""

    plain: bool = True
    area: float = 1.0  # of the crop, share of the largest centred square
    ratio: float = 1.0  # width / height of the crop
    x: float = 0.5  # place of the crop within the room it has, 0 left to 1 right
    y: float = 0.5
    flip_x: bool = False  # mirror left-right
    flip_y: bool = False
    angle: float = 0.0  # degrees
    brightness: float = 1.0  # factors
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0  # turns of the colour circle


def uniforms(name: str, count: int) -> list[float]:
    """`count` doubles in [0, 1): the top 53 bits of the big-endian 64-bit words of SHAKE-256(name)."""
    stream = hashlib.shake_256(name.encode()).digest(8 * count)
    return [(int.from_bytes(stream[i : i + 8], "big") >> 11) * 2.0**-53 for i in range(0, 8 * count, 8)]


def draw(recipe: Recipe, view: int, key: str) -> Draw:
    """The draw of view `view` of the image `key`: a pure function of (recipe id, view, key).

    View 0 is the plain view. Raises ValueError for a negative number.
    """
    if view < 0:
        raise ValueError(f"view {view} of {key}: views are numbered from 0")
    if view == 0:
        return Draw()
    name = f"{recipe.recipe_id}/{view}/{key}"
    unit = dict(zip(_SLOTS, uniforms(name, len(_SLOTS)), strict=True))

    def between(slot: str, low: float, high: float) -> float:
        return low + (high - low) * unit[slot]

    def around(slot: str, reach: float) -> float:
        return between(slot, -reach, reach)

    # exp and log differ in the last bit between C libraries; nine digits do not.
    ratio = round(math.exp(between("ratio", *(math.log(value) for value in recipe.crop_ratio))), 9)
    return Draw(
        plain=False,
        area=between("area", *recipe.crop_scale),
        ratio=ratio,
        x=unit["x"],
        y=unit["y"],
        flip_x=recipe.hflip and unit["flip_x"] < 0.5,
        flip_y=recipe.vflip and unit["flip_y"] < 0.5,
        angle=around("angle", recipe.rotate),
        brightness=1.0 + around("brightness", recipe.brightness),
        contrast=1.0 + around("contrast", recipe.contrast),
        saturation=1.0 + around("saturation", recipe.saturation),
        hue=around("hue", recipe.hue),
    )


def epoch_view(epoch: int, count: int) -> int:
    """The view that epoch `epoch` (from 0) trains on when `count` random views are stored; 0 when none is."""
    return 1 + epoch % count if count else 0


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
