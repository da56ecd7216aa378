"""How many images of each class likely have text or inset boxes: a fact, a note and a table of an ingest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.ingest.image_table import ImageTable
from tasks.pipeline.stage import Artifact, slug

FACT = "overlays"
"""Fact of an ingest manifest; not there where nobody looked."""

_LEAST = 0.01  # share of all images, or of a class, of which people are told
_SHOWN = 8  # classes in a sentence


def count_overlays(images: ImageTable, classes: Sequence[str]) -> dict[str, Any]:
    """`images` that were looked at, `found` of them with an overlay; the same `by_class`, and of the `unlabelled`.

    Empty where nobody looked. An image of a multilabel corpus counts for each of its labels.
    """
    marks = np.where(images.usable, images.numbers("overlay"), -1)
    label = images.numbers("label")
    rows = [label == c if images.labels is None else images.labels[:, c] == 1 for c in range(len(classes))]
    return overlay_counts(marks, rows, ~images.labelled, classes)


def overlay_counts(
    marks: np.ndarray, of_class: Sequence[np.ndarray], unlabelled: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """The counts of `count_overlays`.

    Args:
        marks: int [N], 1 with an overlay, 0 without, -1 where nobody looked.
        of_class: bool [N] for each class.
        unlabelled: bool [N].
    """
    if not (marks >= 0).any():
        return {}

    def counted(rows: np.ndarray) -> dict[str, int]:
        return {"images": int((marks[rows] >= 0).sum()), "found": int((marks[rows] == 1).sum())}

    return {
        **counted(np.ones(len(marks), bool)),
        "by_class": {name: counted(rows) for name, rows in zip(classes, of_class, strict=True)},
        "unlabelled": counted(unlabelled),
    }


def overlay_note(counts: Mapping[str, Any], among: str = "") -> list[str]:
    """A sentence for people where some images have an overlay.

    Args:
        counts: of `count_overlays`.
        among: which images were looked at, where not all.
    """
    groups = _groups(counts)
    told = [row for row in groups if row[1] and row[1] >= _LEAST * row[2]]
    if not told:
        return []
    told.sort(key=lambda row: -row[1] / row[2])
    shown = ", ".join(f"{name} {found / images:.0%}".replace("%", " %") for name, found, images in told[:_SHOWN])
    more = f", {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return [
        f"likely text or inset boxes{among}: {shown}{more}: they can give the class away and may name the patient; see "
        "ingest.mask"
    ]


def overlay_table(title: str, counts: Mapping[str, Any]) -> Artifact:
    """The counts for people."""
    rows = [
        {"class": name, "images": str(images), "likely text or inset box": str(found), "share": f"{found / images:.1%}"}
        for name, found, images in _groups(counts)
    ]
    return Artifact(
        key=f"overlays-{slug(title)}",
        description=f"{counts['found']} of {counts['images']} of {title}'s images likely have text or an inset box",
        content=rows,
    )


def _groups(counts: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, found, images) of every class, and of the unlabelled, that has images."""
    if not counts:
        return []
    groups = [*counts["by_class"].items(), ("unlabelled", counts["unlabelled"])]
    return [(name, own["found"], own["images"]) for name, own in groups if own["images"]]
