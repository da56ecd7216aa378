"""Masks that lie beside the images that they belong to: pictures, but none of the corpus."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

_FOLDER = r"(^|/)(masks?|segmentations?|seg[ _-]?masks?|ground[ _-]?truths?|gts?)/"
_NAME = r"[ _-](masks?|seg|segmentation|gt)([ _-]?\d+)?\.[a-z0-9]+$"
_IN_FOLDER, _NAMED = re.compile(_FOLDER, re.I), re.compile(_NAME, re.I)
_SUFFIX = re.compile(r"\.[^./]*$")


def masks_among(images: Iterable[str] | pa.StringArray) -> set[str]:
    """Paths of masks.

    A picture is a mask where its folder or its name says so and an image of its name is there: `a/masks/1.png` beside
    any `a/**/1.jpg` that is none, `a/1_mask.png` beside `a/1.jpg`. Without such an image it counts as an image.

    Args:
        images: paths of pictures.
    """
    paths = images if isinstance(images, pa.StringArray) else pa.array(images, pa.string())
    suspect = pc.match_substring_regex(paths, f"(?i)({_FOLDER})|({_NAME})")
    candidates = paths.filter(suspect).to_pylist()
    if not candidates:
        return set()
    places: dict[str, list[str]] = defaultdict(list)
    for path in paths.filter(pc.invert(suspect)).to_pylist():
        places[_name(path)].append(path)
    return {path for path in candidates if _has_image(path, places)}


def masks_note(images: Iterable[str] | pa.StringArray) -> list[str]:
    """A note, with a count, where masks are passed over."""
    count = len(masks_among(images))
    return [f"{count} masks beside images of the same names are passed over"] if count else []


def _has_image(path: str, places: dict[str, list[str]]) -> bool:
    plain = _NAMED.sub("", path) if _NAMED.search(path) else _SUFFIX.sub("", path)
    found = _IN_FOLDER.search(path)
    if found:
        within = path[: found.start() + len(found.group(1))]
        names = {_name(path), plain.rpartition("/")[2]}
        return any(other.startswith(within) for name in names for other in places.get(name, ()))
    return any(_SUFFIX.sub("", other) == plain for other in places.get(plain.rpartition("/")[2], ()))


def _name(path: str) -> str:
    return _SUFFIX.sub("", path.rpartition("/")[2])
