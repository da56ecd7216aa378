"""Corpora of frames without patients, some of which are near duplicates of others, drawn as JPEG files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.tasks.corpora.layouts import csv

SIDE = 128


def scene(seed: int) -> np.ndarray:
    """A picture with structure of its own, wider than a frame; uint8 [160, 160, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC))


def frame(path: Path, seed: int, number: int = 0) -> Path:
    """A frame of a scene as a JPEG: the camera moves by a pixel and the light changes a little with each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = scene(seed)[8 + number : 8 + number + SIDE, 8 : 8 + SIDE]
    part = cv2.convertScaleAbs(part, alpha=1 - 0.02 * number, beta=2 * number)
    assert cv2.imwrite(str(path), part, [cv2.IMWRITE_JPEG_QUALITY, 90 - number])
    return path


def encoded_again(path: Path, to: Path) -> None:
    """The same picture in a smaller file."""
    assert cv2.imwrite(str(to), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 60])


def name(kind: str, seed: int, number: int = 0) -> str:
    """A frame's name; it says nothing of the scene that sorting would tell."""
    return f"{kind}/{(seed * 7919 + number * 104729) % 100003:06d}-{seed}-{number}.jpg"


def videos(root: Path, kinds: tuple[str, ...] = ("x", "y"), scenes: int = 12, frames: int = 3) -> Path:
    """Folders of two classes, each with some scenes of a few near frames, named <number>-<scene>-<frame>.jpg."""
    for at, kind in enumerate(kinds):
        for seed in range(scenes):
            for number in range(frames):
                frame(root / name(kind, 1000 * at + seed, number), 1000 * at + seed, number)
    return root


def scene_of(key_or_path: str) -> str:
    """Which scene a frame is of."""
    return key_or_path.rpartition("/")[2].split("-")[1]


def labels(root: Path, rows: list[str], header: str = "name,label,patient") -> Path:
    """`labels.csv` beside the frames."""
    return csv(root / "labels.csv", header, rows)
