"""What borders and thumbnails of real Hyper-Kvasir frames say of the class, before a mask and after.

    python -m tests.bench.frame_masks [--quick] [--sheet PNG]

Balanced accuracy on the official folds, one judged by the other, of the baselines that every report has: a linear model
on the outer 6 % of the frame, and one on a thumbnail of 16 x 16. Needs STILLROOM_REAL_DATA.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from tasks.evaluate.baselines import border, linear, thumbnail
from tasks.preprocessing.frame_mask import PRESETS, paint

FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"borders": border, "thumbnails": thumbnail}
TILE = (216, 180)


def frames(root: Path) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, list[str]]:
    """Frames, class numbers, folds and class names."""
    with (root / "2_fold_split.csv").open() as file:
        rows = {row["file-name"]: row for row in csv.DictReader(file, delimiter=";")}
    paths = [path for path in sorted((root / "labeled-images").rglob("*.jpg")) if path.name in rows]
    names = sorted({path.parent.name for path in paths})
    return (
        [cv2.imread(str(path)) for path in paths],
        np.array([names.index(path.parent.name) for path in paths]),
        np.array([int(rows[path.name]["split-index"]) for path in paths]),
        names,
    )


def balanced_accuracy(features: np.ndarray, label: np.ndarray, fold: np.ndarray, classes: int, folds: int) -> float:
    """Mean over the folds that are judged, each by a model of the other."""
    found = []
    for judged in range(folds):
        train, test = fold != judged, fold == judged
        # A third of the training images chooses the strength.
        third = np.arange(train.sum()) % 3 == 0
        rows, own = features[train], label[train]

        def score(prob: np.ndarray, own: np.ndarray = own, third: np.ndarray = third) -> float:
            return float((prob.argmax(axis=1) == own[third]).mean())

        *_, prob = linear("single", rows[~third], own[~third], None, [rows[third], features[test]], classes, score)
        hit = prob.argmax(axis=1) == label[test]
        found.append(np.mean([hit[label[test] == c].mean() for c in range(classes)]))
    return float(np.mean(found))


def sheet(path: str, images: list[np.ndarray], label: np.ndarray, mask: Callable[[np.ndarray], np.ndarray]) -> None:
    """Two frames of each class, and below each what the mask leaves."""
    chosen = [at for c in np.unique(label) for at in np.flatnonzero(label == c)[[0, -1]]]
    rows = [np.hstack([cv2.resize(how(images[at]), TILE) for at in chosen]) for how in (np.asarray, mask)]
    cv2.imwrite(path, np.vstack(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="borders alone, one fold judged")
    parser.add_argument("--sheet", help="write a contact sheet")
    options = parser.parse_args()
    real = os.environ.get("STILLROOM_REAL_DATA")
    if not real:
        print("STILLROOM_REAL_DATA is not set: nothing to measure")
        return
    images, label, fold, names = frames(Path(real, "hyper-kvasir"))
    mask = partial(paint, polygons=PRESETS["hyper-kvasir"])
    if options.sheet:
        sheet(options.sheet, images, label, mask)
    print(f"{len(images)} frames, {', '.join(names)}")
    for name, of in list(FEATURES.items())[: 1 if options.quick else 2]:
        before, after = (
            balanced_accuracy(
                np.stack([of(how(image)) for image in images]), label, fold, len(names), 1 if options.quick else 2
            )
            for how in (np.asarray, mask)
        )
        print(f"{name}: balanced accuracy {before:.3f} before the mask, {after:.3f} after")


if __name__ == "__main__":
    main()
