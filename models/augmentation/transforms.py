"""Transforms of albumentations that a spec lists, replayed exactly; the one file that imports the library.

They run on a rendered view, after our own warp and colour. Every transform of the list has a generator of its own,
seeded from the name of the view and the transform's place, so that no draw of one moves those of another, and worker,
thread, order and restart change nothing. Transforms keep what they draw, so no two threads use one pipeline at a time.

The generators are numpy's and Python's, whose streams a later version may change; the golden tests would show it.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import os
import random
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np

LIBRARIES = {"albumentations": "2.0.8", "albucore": "0.0.24"}
"""The versions that pixels are defined by. albumentations 2.0.8 is the last release under the MIT licence."""

COMPOSITIONS = ("OneOf", "SomeOf", "RandomOrder", "Sequential")

Listed = dict[str, dict[str, Any]]
"""A transform by its name, with its parameters; those of a composition hold `transforms`, a list of the same form."""

_STREAM_BYTES = 48  # 16 of PCG64's state, 16 of its increment, 16 for Python's generator


def listed(items: Sequence[Any], place: str = "") -> list[Listed]:
    """A list as written in a spec, in one form: `Blur`, `Blur: {p: 1}`, `OneOf: [Blur, CLAHE]` as {name: parameters}.

    Raises ValueError, which names the place within the list, for anything else.
    """
    return [_listed(item, f"{place}{number}") for number, item in enumerate(items)]


def _listed(item: Any, place: str) -> Listed:
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, Mapping) or len(item) != 1 or not isinstance(next(iter(item)), str):
        raise ValueError(f"{place}: write a transform as its name, or as `Name: {{parameter: value}}`; got {item!r}")
    ((name, given),) = item.items()
    if name in COMPOSITIONS and isinstance(given, list):
        given = {"transforms": given}
    if not isinstance(given, Mapping | None):
        raise ValueError(f"{place}: {name} takes `{{parameter: value}}`; got {given!r}")
    parameters = {str(key): value for key, value in (given or {}).items()}
    if name in COMPOSITIONS:
        inner = parameters.get("transforms")
        if not isinstance(inner, list | tuple) or not inner:
            raise ValueError(f"{place}: {name} needs `transforms`, a list of at least one transform")
        parameters["transforms"] = listed(inner, f"{place}.{name}.")
    return {name: parameters}


def texts(items: Sequence[Any]) -> tuple[str, ...]:
    """Each transform of a list as canonical JSON, which is what a recipe holds; ValueError for what JSON has not."""
    try:
        return tuple(json.dumps(item, sort_keys=True, separators=(",", ":"), allow_nan=False) for item in listed(items))
    except (TypeError, ValueError) as error:
        raise ValueError(f"a parameter is no number, text, truth value, list or mapping: {error}") from None


def leaves(items: Sequence[Listed], place: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every transform that is no composition: its place in the list, its name and its parameters."""
    for number, item in enumerate(items):
        ((name, parameters),) = item.items()
        if name in COMPOSITIONS:
            yield from leaves(parameters["transforms"], f"{place}{number}.{name}.")
        else:
            yield f"{place}{number}", name, parameters


def build(item: Listed, place: str = "") -> Any:
    """The library's own object; call it under `warned("ignore")`, for it advises too.

    Raises ValueError: no such transform or parameter (the nearest is named), or a value that the transform refuses or
    would replace by another.
    """
    ((name, parameters),) = item.items()
    kind = _kind(name, place)
    known = [each for each in inspect.signature(kind.__init__).parameters if each not in ("self", "strict")]
    for each in parameters:
        if each not in known:
            near = difflib.get_close_matches(each, known, n=1, cutoff=0.0)
            raise ValueError(f"{place}: {name} has no parameter {each}; did you mean {near[0]}?")
    values = {key: _constant(value, f"{place}: {name}.{key}") for key, value in parameters.items()}
    share = parameters.get("p", 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"{place}: {name}.p is {share!r}; a probability lies in 0 to 1")
    if name in COMPOSITIONS:
        inner = [build(each, f"{place}.{name}.{number}") for number, each in enumerate(parameters["transforms"])]
        _check_composition(name, parameters, inner, place)
        return kind(**{**values, "transforms": inner})
    if "InitSchema" in vars(_defines_init(kind)):
        values["strict"] = True  # else what its schema cannot read is replaced by defaults
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*automatically adjusted.*")
            return kind(**values)
    except (ValueError, TypeError, UserWarning) as error:
        raise ValueError(f"{place}: {name}: {_reason(error)}") from None


def _defines_init(kind: Any) -> Any:
    return next(each for each in kind.__mro__ if "__init__" in vars(each))


def _kind(name: str, place: str) -> Any:
    kinds = _kinds()
    if name in kinds:
        return kinds[name]
    if why := _no_view(name):
        raise ValueError(f"{place}: {name} {why}")
    near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.0)[0]
    raise ValueError(f"{place}: albumentations has no transform {name} that a list may hold; did you mean {near}?")


@cache
def _kinds() -> dict[str, Any]:
    """Leaves and compositions that a list may hold, by name."""
    found = {name: kind for name, kind in _all().items() if not _no_view(name)}
    return found | {name: getattr(library(), name) for name in COMPOSITIONS}


@cache
def _all() -> dict[str, Any]:
    bases = ("BasicTransform", "ImageOnlyTransform", "DualTransform", "Transform3D")
    base = library().BasicTransform
    return {
        name: kind
        for name, kind in vars(library()).items()
        if inspect.isclass(kind) and issubclass(kind, base) and name not in bases
    }


def _no_view(name: str) -> str:
    """Why a transform of the library can never make a view; empty where it may. The rest is seen when it is tried."""
    kind = _all().get(name)
    if kind is None:
        return ""
    if issubclass(kind, library().Transform3D):
        return "works on volumes, not on an image"
    if name in ("ToTensorV2", "ToTensor3D"):
        return "gives a tensor, not uint8 pixels; models make their input themselves"
    if name in ("Lambda", "TextImage"):
        return "reads a function or a file, which a spec cannot hold"
    if kind.__module__.endswith((".crops.transforms", ".geometric.resize")) and name != "CropAndPad":
        return "changes the size; views.size decides it, and views.crop_scale crops"
    return ""


@cache
def library() -> Any:
    """albumentations, imported at the first call; RuntimeError where it or albucore is not here in its version."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else importing it asks PyPI for a newer version
    try:
        import albucore
        import albumentations
    except ImportError as error:
        raise RuntimeError(f"views.transforms needs albumentations: {_install()}") from error
    found = {"albumentations": albumentations.__version__, "albucore": albucore.__version__}
    if found != LIBRARIES:
        raise RuntimeError(f"pixels of views.transforms are those of {LIBRARIES}, and here is {found}: {_install()}")
    return albumentations


def _install() -> str:
    return "pip install " + " ".join(f"{name}=={version}" for name, version in LIBRARIES.items())


def _constant(value: Any, where: str) -> Any:
    """OpenCV's constants by name, as in Python: cv2.BORDER_CONSTANT."""
    if isinstance(value, str) and value.startswith("cv2."):
        found = getattr(cv2, value.removeprefix("cv2."), None)
        if not isinstance(found, int):
            raise ValueError(f"{where}: OpenCV has no constant {value}")
        return found
    return value


def _check_composition(name: str, parameters: Mapping[str, Any], inner: Sequence[Any], place: str) -> None:
    count = parameters.get("n", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{place}: {name}.n is {count!r}; it is a number of transforms, at least 1")
    if count > len(inner) and not parameters.get("replace", False):
        raise ValueError(f"{place}: {name}.n is {count}, of {len(inner)} transforms; lower it or set replace: true")
    if name == "OneOf" and not sum(each.p for each in inner):
        raise ValueError(f"{place}: OneOf chooses in proportion to its transforms' p, and all are 0")


def _reason(error: Exception) -> str:
    cause = error.__cause__
    items = cause.errors() if cause is not None and hasattr(cause, "errors") else []
    for item in items:
        value = "" if item["type"] == "missing" or not item["loc"] else f" (got {item['input']!r})"
        return f"{'.'.join(map(str, item['loc']))}: {item['msg']}{value}".removeprefix(": ")
    return " ".join(str(error).split())


class Pipeline:
    """A list of transforms, built; for one thread at a time.

    Attributes:
        top: the library's own objects, in order; each takes `image=` and gives a mapping with `image`.
    """

    def __init__(self, transforms: Sequence[str]) -> None:
        with warned("ignore"):
            self.top = [build(json.loads(text), str(number)) for number, text in enumerate(transforms)]
        self._streams: list[tuple[np.random.PCG64, random.Random]] = []
        for node in self.top:
            self._adopt(node)

    def _adopt(self, node: Any) -> None:
        # From the top down, for a composition hands its generators on to all below it.
        bits, python = np.random.PCG64(0), random.Random(0)
        node.set_random_state(np.random.Generator(bits), python)
        self._streams.append((bits, python))
        if type(node).__name__ in COMPOSITIONS:  # ColorJitter calls functions of its own `transforms` too
            for inner in node.transforms:
                self._adopt(inner)

    def reseed(self, seed: str) -> None:
        """Set every generator from a name and the transform's place: independent streams."""
        words = hashlib.shake_256(f"transforms/{seed}".encode()).digest(_STREAM_BYTES * len(self._streams))
        for number, (bits, python) in enumerate(self._streams):
            own = words[_STREAM_BYTES * number : _STREAM_BYTES * (number + 1)]
            state, step, start = (int.from_bytes(own[at : at + 16], "big") for at in (0, 16, 32))
            # Setting the state costs a fraction of a new generator; PCG64 needs an odd increment.
            bits.state = {
                "bit_generator": "PCG64",
                "state": {"state": state, "inc": step | 1},
                "has_uint32": 0,
                "uinteger": 0,
            }
            python.seed(start)

    def __call__(self, view: np.ndarray, seed: str) -> np.ndarray:
        """The transformed view, RGB uint8 [S, S, 3]; the given one may be overwritten.

        Raises RuntimeError where the library fails, or gives another shape or type.
        """
        self.reseed(seed)
        made: Any = view
        for node in self.top:
            try:
                made = node(image=made)["image"]
            except Exception as error:
                raise RuntimeError(f"views.transforms: {type(node).__name__} failed on view {seed}: {error}") from error
        if not isinstance(made, np.ndarray) or made.shape != view.shape or made.dtype != view.dtype:
            raise RuntimeError(f"views.transforms gave {described(made)} for view {seed}, not {described(view)}")
        return made


def described(picture: Any) -> str:
    """Type and shape of what a transform gave, for a message."""
    return f"{getattr(picture, 'dtype', type(picture).__name__)} {list(getattr(picture, 'shape', []))}"


_filters = threading.Lock()
_idle: defaultdict[tuple[str, ...], deque[Pipeline]] = defaultdict(deque)


@contextmanager
def warned(action: Literal["ignore", "error"]) -> Iterator[None]:
    """What to do with the library's warnings; one thread at a time, for the filters belong to the process."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter(action)
        yield


def transform(view: np.ndarray, transforms: tuple[str, ...], seed: str) -> np.ndarray:
    """The view after a list of transforms.

    Args:
        view: RGB uint8 [S, S, 3]; may be overwritten.
        transforms: from `texts`, checked.
        seed: name of the view, which alone decides what is drawn.

    Returns:
        RGB uint8 [S, S, 3].

    Raises:
        RuntimeError: albumentations is not here in its version, fails on this view, or changes shape or type.
    """
    idle = _idle[transforms]
    try:
        pipeline = idle.pop()
    except IndexError:
        pipeline = Pipeline(transforms)
    made = pipeline(view, seed)
    idle.append(pipeline)  # not where it failed: what it holds is unknown
    return made
