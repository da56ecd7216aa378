"""The images of a scarce corpus as arrays: rendered views, labels, splits, patients."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import decode, render, resize
from tests.bench.recipes_corpora import SETS

FRESH = 1_000_000
"""Number of the first view that is never stored: trainings without a teacher draw from here on."""

RECIPES = {
    "endoscopy": ViewRecipe(224, hflip=True, vflip=True, rotate=180.0),
    "xray": ViewRecipe(224, hflip=False, vflip=False, rotate=10.0),
    "fundus": ViewRecipe(224, hflip=True, vflip=True, rotate=180.0),
}


@dataclass(frozen=True)
class Pictures:
    """A corpus in memory; N images in the order of their names.

    Attributes:
        label: int64 [N], -1 where the training does not know it.
        truth: int64 [N], -1 where nobody knows it.
        split: [N] train, val or test.
        patient: [N].
        stored: by side, uint8 [1 + V, N, S, S, 3]: the plain view and the stored ones.
        fresh: by side, uint8 [F, L, S, S, 3]: views of the L labelled training images that are never stored.
    """

    names: list[str]
    classes: tuple[str, ...]
    label: np.ndarray
    truth: np.ndarray
    split: np.ndarray
    patient: np.ndarray
    stored: dict[int, np.ndarray]
    fresh: dict[int, np.ndarray]

    def rows(self, split: str, *, labelled: bool | None = None, true: bool | None = None) -> np.ndarray:
        """Rows of a split; with a known label, or a known truth, or without, where asked."""
        chosen = self.split == split
        if labelled is not None:
            chosen &= (self.label >= 0) == labelled
        if true is not None:
            chosen &= (self.truth >= 0) == true
        return np.flatnonzero(chosen)


def read(name: str, folder: Path, *, views: int, fresh: int, sides: Sequence[int], processes: int) -> Pictures:
    """Read a folder of `tests.bench.recipes_corpora.write`, and render its views by processes."""
    classes = SETS[name].classes
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "truth.csv").open(newline="") as file:
        truth = {row["image"]: row["label"] for row in csv.DictReader(file)}
    names = [row["image"] for row in rows]
    label = np.array([classes.index(row["label"]) if row["label"] else -1 for row in rows])
    split = np.array([row["split"] for row in rows])
    labelled = np.flatnonzero((split == "train") & (label >= 0))
    recipe = RECIPES[SETS[name].modality]
    paths = [folder / "images" / one for one in names]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        stored = pool.map(partial(_views, recipe, range(views + 1), tuple(sides)), paths, chunksize=4)
        new = partial(_views, recipe, range(FRESH, FRESH + fresh), tuple(sides))
        unstored = pool.map(new, [paths[row] for row in labelled], chunksize=4)
        own, others = list(stored), list(unstored)
    return Pictures(
        names,
        classes,
        label,
        np.array([classes.index(truth[one]) if truth[one] else -1 for one in names]),
        split,
        np.array([row["patient"] for row in rows]),
        {side: np.stack([one[side] for one in own], axis=1) for side in sides},
        {side: np.stack([one[side] for one in others], axis=1) for side in sides},
    )


def _views(recipe: ViewRecipe, numbers: range, sides: Sequence[int], path: Path) -> dict[int, np.ndarray]:
    """By side, uint8 [V, S, S, 3]."""
    cv2.setNumThreads(1)
    image = decode(path.read_bytes())
    views = [render(image, recipe, draw(recipe, number, path.stem)) for number in numbers]
    return {side: np.stack([resize(view, side) for view in views]) for side in sides}
