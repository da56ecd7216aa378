"""What an adapter is: it reads a corpus's folder and tables and says what images there are.

An adapter opens tables and lists folders; it never opens an image. Reasons never hold the image's own
name or patient, so that they may stand in the catalog of a private corpus.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from infra.errors import CorpusError
from tasks.catalog import OK
from tasks.spec import CorpusSection

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(slots=True)
class Row:
    """One image, or one label row without an image."""

    path: str | None  # POSIX path below corpus.root; None for a label row without an image
    name: str  # what the corpus calls the image; its key is made from this
    label: int = -1  # class number; -1 unlabelled, and always -1 in a multilabel corpus
    labels: tuple[int, ...] | None = None  # multilabel: 1, 0 or -1 (unknown) a class
    patient: str = ""
    exam: str = ""
    eye: str = ""
    split: str = ""  # official split, "" where the corpus names none
    status: str = OK
    reason: str = ""

    @property
    def labelled(self) -> bool:
        """Whether at least one label is known."""
        return self.label >= 0 or (self.labels is not None and any(v >= 0 for v in self.labels))


@dataclass(frozen=True)
class Scan:
    """What an adapter found."""

    task: str  # single, ordinal or multilabel
    classes: tuple[str, ...]
    modality: str  # fundus, endoscopy, xray or other
    size: int  # default shorter side in pixels at ingest
    official: frozenset[str]  # splits that the corpus itself defines
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


class Adapter(Protocol):
    """One layout on disk."""

    name: str

    def describe(self) -> str:
        """For people: what the adapter expects on disk."""

    def fits(self, folder: Path) -> str | None:
        """Why the folder looks like this layout, or None."""

    def scan(self, section: CorpusSection) -> Scan:
        """Read the corpus; CorpusError when the folder is not what the section says."""


def images_below(root: Path, folder: Path) -> list[str]:
    """Paths below `root` of all files with an image's suffix at any depth of `folder`, sorted.

    Hidden files are skipped: archives made on a Mac carry a `._name.jpg` beside every image.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__MACOSX"]
        for file in files:
            if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith("."):
                found.append(Path(place, file).relative_to(root).as_posix())
    return sorted(found)


def stem(name: str) -> str:
    """The name without folders and without an image's suffix; other dots stay."""
    base = name.rpartition("/")[2]
    head, dot, suffix = base.rpartition(".")
    return head if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES and head else base


def need_folder(root: Path, adapter: str, *wanted: str) -> None:
    """CorpusError unless `root` is a folder that holds every `wanted` entry."""
    if not root.is_dir():
        raise CorpusError(f"corpus.root {root}: no such folder; {adapter} looks for {_listed(wanted)} in it")
    absent = [w for w in wanted if not (root / w).exists()]
    if absent:
        hint = ""
        parts = sorted(p.name for p in root.glob("*.zip*"))
        if parts:
            hint = f"; extract {parts[0]} first (7z x {parts[0]})"
        raise CorpusError(
            f"corpus.root {root}: {adapter} looks for {_listed(absent)}, but the folder holds "
            f"{_listed(sorted(p.name for p in root.iterdir()))}{hint}"
        )


def _listed(names: Iterable[str], limit: int = 8) -> str:
    names = list(names)
    text = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return text or "nothing"
