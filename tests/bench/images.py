"""Images for contenders to label or to train on: drawn photographs as in shards, 512 px high, JPEG quality 92."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from tasks.corpora.phantom.fundus import draw_fundus

WIDTH, HEIGHT = 683, 512
QUALITY = 92
DRAWN = 16  # pictures drawn; the others are these with other noise


def make_images(folder: Path, count: int) -> list[Path]:
    """JPEG files `<n>_left.jpg` of about 55 kB, each of bytes of its own; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n:05d}_left.jpg" for n in range(count)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_make, [paths[n::DRAWN] for n in range(min(DRAWN, count))]))
    return paths


def _make(paths: list[Path]) -> None:
    missing = [path for path in paths if not path.exists()]
    if not missing:
        return
    kind = int(paths[0].name.partition("_")[0])
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left = (WIDTH - HEIGHT) // 2
    frame[:, left : left + HEIGHT] = draw_fundus(1, kind + 1, "left", kind % 5, HEIGHT)
    for path in missing:
        number = int(path.name.partition("_")[0])
        # Noise of one level: files are then as large, and as slow to decode, as endoscopy frames of this size.
        noise = np.random.default_rng(number).standard_normal((HEIGHT, WIDTH, 1), np.float32)
        noisy = np.clip(frame + np.where(frame > 0, noise, 0), 0, 255).astype(np.uint8)
        done, data = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        assert done
        part = path.with_suffix(".part")
        part.write_bytes(data.tobytes())
        part.rename(path)
