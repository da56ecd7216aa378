"""Checks of listed transforms, made when the spec is read: each is tried on pictures before any view is stored.

A transform is refused that needs more than the image, changes its size or type, is not repeatable, or does what the
kind of image forbids. What a transform does is seen in what it makes, so no list of names has to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from models.augmentation.transforms import Listed, Pipeline, build, described, leaves, warned

MIRROR, HUE = "mirror", "hue"

_SIDE, _DRAWS = 61, 12
_TRIALS = {_SIDE: _DRAWS, 97: 4}
"""Draws by side of the picture: sides that nobody would write down, so that a transform of a fixed size shows."""
_TURN = 6.0
"""Degrees by which the mean hue may turn: noise turns it by 5 at most, 0.02 of the circle is 7."""
_LEAST_COLOUR = 0.03
"""Share of the mean chroma that must be left: less is a grey picture."""

_ALONE = "a view is made of one image alone"

# RGB -> the plane of colour differences B - Y and R - Y (ITU-R BT.601).
_CHROMA = np.array([[-0.299, -0.587, 0.886], [0.701, -0.587, -0.114]])


def check(items: Sequence[Listed], size: int) -> None:
    """Build a list of transforms and try each of them, on several pictures and at the view's side.

    Args:
        items: from `models.augmentation.transforms.listed`.
        size: side of the views in pixels.

    Raises:
        ValueError: what is wrong with which transform, and what to do.
        RuntimeError: albumentations is not here in its version.
    """
    _check(_text(items), size)


def effects(items: Sequence[Listed]) -> dict[str, tuple[str, ...]]:
    """Names of the listed transforms that mirror the picture (MIRROR), and that turn or remove its colour (HUE).

    A transform whose probability is 0 does nothing.
    """
    return {MIRROR: _doing(_text(items), MIRROR), HUE: _doing(_text(items), HUE)}


def _text(items: Sequence[Listed]) -> str:
    return json.dumps(items, sort_keys=True, allow_nan=False)


@lru_cache(maxsize=32)
def _check(text: str, size: int) -> None:
    items: list[Listed] = json.loads(text)
    with warned("ignore"):
        for number, item in enumerate(items):
            build(item, str(number))
    for place, name, parameters in leaves(items):
        try:
            _try(name, parameters, size)
        except _Refused as reason:
            raise ValueError(f"{place}: {name} {reason}") from None


class _Refused(Exception):
    """Why a transform cannot stand in the list."""


def _try(name: str, parameters: dict[str, Any], size: int) -> None:
    first, second = (_always(name, parameters) for _ in range(2))
    node = first.top[0]
    if needs := sorted(set(getattr(node, "targets_as_params", ())) - {"image"}):
        raise _Refused(f"needs {', '.join(needs)} beside the image; {_ALONE}")
    for side, draws in _TRIALS.items():
        made = [_made(first, _picture(side), draw) for draw in range(draws)]
        # Another pipeline, backwards: what one call leaves behind must not show in the next.
        again = [_made(second, _picture(side), draw) for draw in reversed(range(draws))][::-1]
        if not all(np.array_equal(a, b) for a, b in zip(made, again, strict=True)):
            raise _Refused("makes another picture from the same numbers; take another transform")
    _made(first, _picture(size), 0)


def _always(name: str, parameters: dict[str, Any]) -> Pipeline:
    return Pipeline((json.dumps({name: {**parameters, "p": 1.0}}),))


def _made(pipeline: Pipeline, picture: np.ndarray, draw: int) -> np.ndarray:
    """What a pipeline of one transform makes of a picture, which must be of the same shape and type."""
    pipeline.reseed(f"{len(picture)}/{draw}")
    try:
        # What the library warns of on a picture is that it did something else, or nothing.
        with warned("error"):
            made = pipeline.top[0](image=picture.copy())["image"]
    except KeyError as error:
        raise _Refused(f"needs {error.args[0]} beside the image; {_ALONE}") from None
    except Exception as error:
        said = " ".join(str(error).split())
        raise _Refused(f"fails on a picture of {len(picture)} x {len(picture)}: {said}") from None
    if not isinstance(made, np.ndarray) or made.dtype != np.uint8:
        raise _Refused(f"gives {described(made)}, not uint8 pixels; models normalise their input themselves")
    if made.shape != picture.shape:
        raise _Refused(
            f"gives {list(made.shape)} for {list(picture.shape)}; transforms keep the size, "
            "which views.size decides, and views.crop_scale crops"
        )
    return made


def _doing(text: str, effect: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, found in _effects(text) if effect in found))


@lru_cache(maxsize=32)
def _effects(text: str) -> tuple[tuple[str, frozenset[str]], ...]:
    found = []
    for _, name, parameters in leaves(json.loads(text)):
        if parameters.get("p") != 0:
            pipeline = _always(name, parameters)
            does = {MIRROR: _mirrors, HUE: _turns_hue}
            found.append((name, frozenset(effect for effect, test in does.items() if test(pipeline))))
    return tuple(found)


def _mirrors(pipeline: Pipeline) -> bool:
    """Whether most of some picture is mirrored: the map from its pixels to where they were has determinant < 0."""
    if "mask" not in pipeline.top[0].targets:  # it changes values, and moves nothing
        return False
    side = _SIDE
    y, x = np.indices((side, side)) * (255.0 / side)
    places = np.stack([x, y, np.full_like(x, 128)], -1).astype(np.uint8)
    for draw in range(_DRAWS):
        made = _made(pipeline, places, draw).astype(np.float64)
        along, down = np.gradient(made, axis=1), np.gradient(made, axis=0)
        if np.sign(along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0]).sum() < 0:
            return True
    return False


def _turns_hue(pipeline: Pipeline) -> bool:
    """Whether the mean colour of some picture turns, or goes."""
    picture = _picture(_SIDE)
    before = _chroma(picture)
    for draw in range(_DRAWS):
        ratio = _chroma(_made(pipeline, picture, draw)) / before
        if abs(ratio) < _LEAST_COLOUR or abs(np.degrees(np.angle(ratio))) > _TURN:
            return True
    return False


def _chroma(picture: np.ndarray) -> complex:
    across, up = _CHROMA @ picture.reshape(-1, 3).mean(axis=0)
    return complex(across, up)


@lru_cache(maxsize=8)
def _picture(side: int) -> np.ndarray:
    """Smooth and of the colour of tissue: RGB uint8 [side, side, 3]."""
    y, x = np.indices((side, side)) / side
    light = 0.75 + 0.2 * np.sin(9 * x + 4 * y) + 0.1 * np.cos(13 * y)
    fine = np.sin(31 * x) * np.cos(27 * y)
    picture = light[..., None] * np.array([170, 92, 62]) + fine[..., None] * np.array([12, 8, 6])
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8))
