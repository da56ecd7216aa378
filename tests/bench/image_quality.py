"""Quality scores and overlay flags on real images: do worse pictures score lower, and how many images are flagged.

    python -m tests.bench.image_quality [--quick]

Each image is made worse in five ways before it is cropped and shrunk as an ingest would; shares are of those whose
score then falls. Flags are counted by class as stored by default, and of Hyper-Kvasir after its mask. Milliseconds are
of one thread. Needs STILLROOM_REAL_DATA.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from tasks.ingest.image_quality import measured, scores
from tasks.ingest.overlays import has_overlay
from tasks.preprocessing.crop import FINDERS
from tasks.preprocessing.frame_mask import PRESETS, Polygon, paint

CORPORA = {
    "hyper-kvasir": ("endoscopy", "endoscopy", 512),
    "chestx-ray14": ("xray", "none", 512),
    "imo-fundus": ("fundus", "fundus", 1024),
}
"""Folder to kind of image, crop and shorter side in pixels."""


def stored(image: np.ndarray, crop: str, size: int, mask: Sequence[Polygon] = ()) -> np.ndarray:
    """Grey uint8 [H, W] of what an ingest stores."""
    box = None
    if mask:
        image = paint(image, mask)
    elif crop != "none":
        box = FINDERS[crop](image)
    if box is not None:
        image = box.cut(image)
    height, width = image.shape[:2]
    short = min(height, width)
    if short > size:
        target = (max(size, round(width * size / short)), max(size, round(height * size / short)))
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def _part(image: np.ndarray, *edges: float) -> np.ndarray:
    height, width = image.shape[:2]
    left, top, right, bottom = edges
    return np.ascontiguousarray(image[int(top * height) : int(bottom * height), int(left * width) : int(right * width)])


WORSE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), min(image.shape[:2]) / 256),
    "half as bright": lambda image: image // 2,
    "1.8 times as bright": lambda image: cv2.convertScaleAbs(image, alpha=1.8),
    "middle 70 %": lambda image: _part(image, 0.15, 0.15, 0.85, 0.85),
    "left 60 %": lambda image: _part(image, 0, 0, 0.6, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every twentieth image")
    step = 20 if parser.parse_args().quick else 4
    real = os.environ.get("STILLROOM_REAL_DATA")
    if not real:
        print("STILLROOM_REAL_DATA is not set: nothing to measure")
        return
    cv2.setNumThreads(1)
    for folder, (modality, crop, size) in CORPORA.items():
        paths = sorted(path for path in Path(real, folder).rglob("*") if path.suffix in (".jpg", ".png"))[::step]
        images = [cv2.imread(str(path)) for path in paths]
        plain = [stored(image, crop, size) for image in images]
        start = time.perf_counter()
        base = scores(np.array([measured(grey) for grey in plain]), modality)
        middle = time.perf_counter()
        flags = np.array([has_overlay(grey) for grey in plain])
        took = [1000 * seconds / len(plain) for seconds in (middle - start, time.perf_counter() - middle)]
        print(f"{folder}: {len(images)} images, quality {took[0]:.2f} ms, overlays {took[1]:.2f} ms an image")
        print(f"  scores, 1 to 99 %: {', '.join(f'{value:.2f}' for value in np.percentile(base, [1, 10, 50, 90, 99]))}")
        for name, worse in WORSE.items():
            found = scores(np.array([measured(stored(worse(image), crop, size)) for image in images]), modality)
            print(f"  {name}: {np.mean(found < base):.1%} score lower")
        names = np.array([path.parent.name for path in paths])
        print("  flagged: " + ", ".join(f"{name} {flags[names == name].mean():.1%}" for name in np.unique(names)))
        if folder in PRESETS:
            mask = PRESETS[folder]
            left = [has_overlay(stored(image, crop, size, mask), mask) for image in images]
            print(f"  flagged after the mask: {np.mean(left):.1%}, before {flags.mean():.1%}")


if __name__ == "__main__":
    main()
