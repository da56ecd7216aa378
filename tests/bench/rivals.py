"""What Stillroom's ingestion is measured against, each on the same files, size, quality and number of processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset as wds
from PIL import Image

from tests.bench.environments import python_with

SIZE, QUALITY = 512, 92
_FLAGS = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))

# Runs in an environment of its own: img2dataset needs other versions than ours.
_IMG2DATASET = f"""
import sys, time
from img2dataset import download
if __name__ == "__main__":
    start = time.perf_counter()
    download(url_list=sys.argv[1], input_format="txt", output_folder=sys.argv[2], output_format="webdataset",
             image_size={SIZE}, resize_mode="keep_ratio", resize_only_if_bigger=True, encode_quality={QUALITY},
             processes_count=int(sys.argv[3]), thread_count=16, number_sample_per_shard=64, enable_wandb=False)
    print("seconds", time.perf_counter() - start)
"""


def _bare(paths: Sequence[Path]) -> int:
    cv2.setNumThreads(1)
    total = 0
    for path in paths:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as header:
            short = min(header.size)
        flag = next((flag for factor, flag in _FLAGS if short >= factor * SIZE), cv2.IMREAD_COLOR)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        height, width = image.shape[:2]
        scale = SIZE / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        total += len(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
    return total


def _shard_writer(job: tuple[Sequence[Path], str]) -> int:
    paths, pattern = job
    with wds.ShardWriter(pattern, maxcount=64, verbose=0) as sink:
        for path in paths:
            with Image.open(path) as image:
                scale = SIZE / min(image.size)
                small = image.convert("RGB").resize(tuple(round(s * scale) for s in image.size), Image.Resampling.BOX)
            sink.write({"__key__": path.stem, "jpg": _jpeg(small)})
    return len(paths)


def _jpeg(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()


def bound(paths: Sequence[Path], processes: int) -> float:
    """Images a second of the bare loop: read, decode at reduced scale, resize, encode; nothing is kept."""
    return _rate(_bare, [paths[i::processes] for i in range(processes)], [[]] * processes, len(paths))


def shard_writer(paths: Sequence[Path], processes: int, folder: Path) -> float:
    """Images a second of WebDataset's ShardWriter with Pillow."""
    folder.mkdir(parents=True)
    jobs = [(paths[i::processes], str(folder / f"{i}-%04d.tar")) for i in range(processes)]
    idle = [([], str(folder / f"idle-{i}-%04d.tar")) for i in range(processes)]
    return _rate(_shard_writer, jobs, idle, len(paths))


@contextmanager
def _plain() -> Iterator[None]:
    """An environment as others have it: what our cluster sets for its workers stays in ours after it is closed."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(("MALLOC_", "OMP_"))}
    try:
        yield
    finally:
        os.environ.update(taken)


def _rate(work: Callable[..., int], jobs: list[Any], idle: list[Any], count: int) -> float:
    with _plain(), ProcessPoolExecutor(len(jobs), mp_context=get_context("spawn")) as pool:
        # Starting and importing are not what is measured.
        list(pool.map(os.getenv, ["HOME"] * 2 * len(jobs)))
        list(pool.map(work, idle))
        start = time.perf_counter()
        list(pool.map(work, jobs))
        return count / (time.perf_counter() - start)


def img2dataset(paths: Sequence[Path], processes: int, folder: Path) -> float | None:
    """Images a second of img2dataset reading file:// addresses, its start not counted; None where it cannot be had.

    Its start is taken out by a second run on a few images: the rate is of the images between the two.
    """
    python = _with_img2dataset()
    if python is None:
        return None
    few = paths[: max(2, len(paths) // 10)]
    seconds = [_run_img2dataset(python, some, processes, folder / str(len(some))) for some in (few, paths)]
    return (len(paths) - len(few)) / (seconds[1] - seconds[0])


def _run_img2dataset(python: Path, paths: Sequence[Path], processes: int, folder: Path) -> float:
    folder.mkdir(parents=True)
    (folder / "urls.txt").write_text("".join(f"file://{path.resolve()}\n" for path in paths))
    (folder / "run.py").write_text(_IMG2DATASET)
    command = [str(python), str(folder / "run.py"), str(folder / "urls.txt"), str(folder / "out"), str(processes)]
    with _plain():
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    stats = [json.loads(p.read_text()) for p in (folder / "out").glob("*_stats.json")]
    assert sum(s["successes"] for s in stats) == len(paths), done.stderr[-2000:]
    return float(done.stdout.split("seconds")[-1])


def _with_img2dataset() -> Path | None:
    """A Python that has img2dataset: STILLROOM_IMG2DATASET, or an environment made under .bench."""
    given = os.environ.get("STILLROOM_IMG2DATASET")
    return Path(given) if given else python_with("img2dataset", "img2dataset==1.47.0", ours=False)
