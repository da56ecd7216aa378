"""Recipes of replayed augmentation and their random draws (DESIGN: View).

A view depends only on (recipe, number, key of the image): there is no generator with a state, so worker, order, batch
and restart cannot change it. The numbers are the bytes of SHAKE-256 over that name, which no library upgrade can
change; numpy's and albumentations' generators do not guarantee that. So what every recipe needs is drawn here, and
albumentations is only asked for the transforms that a spec lists; those are seeded with the view's name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from models.augmentation.transforms import LIBRARIES, texts

VERSION = 2
"""Version of draws and pixels of random views together; part of every recipe id. Increase it when either changes."""

PLAIN_VERSION = 1
"""Version of the plain view's pixels."""

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

_NO_PIXELS = ("count", "allow", "libraries")
"""Of a `views:` section; the versions of the libraries are this file's own."""

MIXES = ("none", "mixup", "cutmix")

NO_PARTNER = -1
"""In place of a partner's row: the view of this row is not mixed."""

_PAIR_SLOTS = ("mixed", "share", "x", "y")
_PLACE_BITS = 53  # of a double in [0, 1)
_SHARE_STEPS = 1 << 16


@dataclass(frozen=True)
class ViewRecipe:
    """The ranges of random augmentation; meanings and units as in the spec's `views:` section.

    The number of stored views is not part of it: a larger count leaves the existing views valid.
    Raises ValueError for a value outside its range.
    """

    size: int  # side S of the rendered view in pixels
    crop_scale: tuple[float, float] = (0.6, 1.0)  # area, as a share of the largest centred square
    crop_ratio: tuple[float, float] = (0.8, 1.25)  # width / height of the crop
    hflip: bool = True
    vflip: bool = False
    rotate: float = 15.0  # largest turn in degrees, either way
    brightness: float = 0.15  # largest relative change, as the next two
    contrast: float = 0.15
    saturation: float = 0.1
    hue: float = 0.0  # largest turn of the colour circle; 0.5 is half
    mix: str = "none"  # none, mixup or cutmix
    mix_alpha: float = 1.0
    mix_share: float = 1.0  # of the pairs
    transforms: tuple[str, ...] = ()  # of albumentations, as canonical JSON, from `models.augmentation.transforms`

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio"):
            low, high = (float(value) for value in getattr(self, name))
            if not 0 < low <= high:
                raise ValueError(f"views.{name} is ({low}, {high}); it needs 0 < low <= high")
            object.__setattr__(self, name, (low, high))
        for name in ("rotate", "brightness", "contrast", "saturation", "hue", "mix_alpha", "mix_share"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.crop_scale[1] > 1:
            raise ValueError(f"views.crop_scale ends at {self.crop_scale[1]}; a crop is at most the whole, 1")
        if self.mix not in MIXES:
            raise ValueError(f"views.mix is {self.mix!r}; known: {', '.join(MIXES)}")
        if self.mix_alpha <= 0 or not 0 <= self.mix_share <= 1:
            raise ValueError(
                f"views.mix_alpha {self.mix_alpha} is not positive, or mix_share {self.mix_share} no share"
            )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ViewRecipe:
        """The recipe of a `views:` section given as plain values; what decides no pixel is left out."""
        known = {name: value for name, value in values.items() if name not in _NO_PIXELS}
        return cls(**{**known, "transforms": texts(known.get("transforms", ()))})

    @cached_property
    def recipe_id(self) -> str:
        """sha256 of the version and the canonical values."""
        values = asdict(self)
        if self.mix == "none":
            values = {name: value for name, value in values.items() if not name.startswith("mix")}
        if self.transforms:
            values = {**values, "libraries": LIBRARIES}
        else:
            del values["transforms"]
        return _digest(["views", VERSION, values])

    def view_id(self, view: int) -> str:
        """Identity of one numbered view: `recipe_id`; for the plain view a digest of its size only.

        So a change of rotation or colour does not require new inference on plain views.
        """
        return self.recipe_id if view else _digest(["views", PLAIN_VERSION, "plain", self.size])


@dataclass(frozen=True)
class Draw:
    """The random numbers of one view of one image; the defaults are the plain view."""

    plain: bool = True
    area: float = 1.0  # of the crop, share of the largest centred square
    ratio: float = 1.0  # width / height of the crop
    x: float = 0.5  # position of the crop within the image, 0 left to 1 right
    y: float = 0.5
    flip_x: bool = False  # mirror left-right
    flip_y: bool = False
    angle: float = 0.0  # degrees
    brightness: float = 1.0  # factors
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0  # turns of the colour circle
    seed: str = ""  # of the recipe's transforms: the view's name; empty where there are none


@dataclass(frozen=True)
class Mixture:
    """How a view is mixed with its partner's; the partner's own mixed view has the same share and box."""

    share: float  # of the own view: of every pixel's value (mixup), or of the pixels (cutmix)
    box: tuple[int, int, int, int] | None  # left, top, right, bottom in pixels, from the partner; None: blend


def uniforms(name: str, count: int) -> list[float]:
    """`count` doubles in [0, 1): the top 53 bits of the big-endian 64-bit words of SHAKE-256(name)."""
    stream = hashlib.shake_256(name.encode()).digest(8 * count)
    return [(int.from_bytes(stream[i : i + 8], "big") >> 11) * 2.0**-53 for i in range(0, 8 * count, 8)]


def draw(recipe: ViewRecipe, view: int, key: str) -> Draw:
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

    # exp and log differ in the last bit between C libraries; nine digits are equal.
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
        seed=name if recipe.transforms else "",
    )


def partners(recipe: ViewRecipe, view: int, keys: Sequence[str] | np.ndarray) -> np.ndarray | None:
    """The mixing partners in view `view` of the images `keys` of one shard.

    Partners are mutual: neighbours in the order of a hash of each key. The order is halved recursively; pairs form
    within the smallest halves first, and an unpaired rest is paired with the rest of the neighbouring half. So one key
    more or less changes at most one pair at each level, about log2 N in all; pairing a sorted list would change them
    all.

    Args:
        keys: N different keys, in any order.

    Returns:
        int32 [N], the partner's position or NO_PARTNER; None where no view is mixed: `recipe.mix` is none, or view 0.
    """
    if recipe.mix == "none" or view == 0:
        return None
    names = [str(key) for key in keys]
    units = [uniforms(f"partner/{recipe.recipe_id}/{view}/{name}", 1)[0] for name in names]
    places = (np.array(units) * 2.0**_PLACE_BITS).astype(np.int64)
    found = np.full(len(names), NO_PARTNER, dtype=np.int32)
    free = np.argsort(places)
    for bit in range(_PLACE_BITS + 1):
        half = places[free] >> bit
        left = np.flatnonzero(half[:-1] == half[1:])
        for a, b in zip(free[left].tolist(), free[left + 1].tolist(), strict=True):
            if _pair_units(recipe, view, names[a], names[b])["mixed"] < recipe.mix_share:
                found[a], found[b] = b, a
        free = np.delete(free, np.concatenate([left, left + 1]))
    return found


def mixture(recipe: ViewRecipe, view: int, key: str, partner_key: str) -> Mixture:
    """The mixture of two partners' views, independent of their order.

    Mixup (Zhang et al. 2018, 1710.09412): share from Beta(alpha, alpha). CutMix (Yun et al. 2019, 1905.04899): a box of
    side sqrt(1 - share) of the view around a uniform centre, clipped; the share is then that of the pixels kept.
    Raises ValueError for a recipe that does not mix.
    """
    from scipy.special import betaincinv

    if recipe.mix == "none":
        raise ValueError(f"view {view} of {key} has a partner, {partner_key}, and its recipe mixes none")
    unit = _pair_units(recipe, view, key, partner_key)
    # Steps of 2^-16 remove differences between versions of scipy, and make the blend exact in float32.
    steps = round(float(betaincinv(recipe.mix_alpha, recipe.mix_alpha, unit["share"])) * _SHARE_STEPS)
    share = min(max(steps, 1), _SHARE_STEPS - 1) / _SHARE_STEPS
    if recipe.mix == "mixup":
        return Mixture(share, None)
    reach = recipe.size * math.sqrt(1 - share) / 2

    def edge(place: float) -> int:
        return min(max(math.floor(place + 0.5), 0), recipe.size)

    x, y = unit["x"] * recipe.size, unit["y"] * recipe.size
    left, top, right, bottom = edge(x - reach), edge(y - reach), edge(x + reach), edge(y + reach)
    return Mixture(1 - (right - left) * (bottom - top) / recipe.size**2, (left, top, right, bottom))


def _pair_units(recipe: ViewRecipe, view: int, key: str, other: str) -> dict[str, float]:
    first, second = sorted((key, other))
    name = f"mixture/{recipe.recipe_id}/{view}/{first}\n{second}"
    return dict(zip(_PAIR_SLOTS, uniforms(name, len(_PAIR_SLOTS)), strict=True))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
