"""10-megapixel photographs to measure ingestion with: drawn fundus images, enlarged, with a camera's noise."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from tasks.corpora.phantom.fundus import draw_fundus

WIDTH, HEIGHT = 3888, 2592
DRAWN = 12  # pictures drawn; the others are these with other noise
QUALITY = 90


def make_photos(folder: Path, count: int) -> list[Path]:
    """JPEG files `<n>_left.jpg`, each of bytes of its own; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n}_left.jpg" for n in range(count)]
    missing = [path for path in paths if not path.exists()]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_make, missing, chunksize=8))
    return paths


def _make(path: Path) -> None:
    number = int(path.name.partition("_")[0])
    disc = draw_fundus(1, number % DRAWN + 1, "left", number % 5, 864)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    side = HEIGHT - 2 * 40
    left = (WIDTH - side) // 2
    frame[40 : 40 + side, left : left + side] = cv2.resize(disc, (side, side), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(number).normal(0, 3, (HEIGHT // 2, WIDTH // 2)).astype(np.float32)
    grain = cv2.resize(noise, (WIDTH, HEIGHT))[..., None]
    noisy = np.clip(frame + np.where(frame > 0, grain, 0), 0, 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    part = path.with_suffix(".part")
    part.write_bytes(data.tobytes())
    part.rename(path)
