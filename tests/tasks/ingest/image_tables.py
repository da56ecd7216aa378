"""Image tables made of a few images, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tasks.data.catalog import SPLITS
from tasks.ingest.image_table import ImageTable


class Image(NamedTuple):
    """What splits and leaks depend on."""

    key: str
    patient: str = ""
    label: int = -1
    split: str = ""
    sha: str = ""


def table_of(images: Sequence[Image]) -> ImageTable:
    """Usable rows; bytes are an image's own unless `sha` says otherwise."""
    return ImageTable.of(
        len(images),
        None,
        key=[i.key for i in images],
        source=[f"{i.key}.png" for i in images],
        path=[f"{i.key}.png" for i in images],
        source_sha256=[i.sha or i.key for i in images],
        patient=[i.patient for i in images],
        split_key=[f"patient:{i.patient}" if i.patient else f"image:{i.key}.png" for i in images],
        status=["ok"] * len(images),
        label=[i.label for i in images],
        official=[SPLITS.index(i.split) if i.split else -1 for i in images],
    )
