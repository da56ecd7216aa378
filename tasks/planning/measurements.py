"""Measurements of some seconds with the code that runs use: decoding, rendering, forward passes, training steps."""

from __future__ import annotations

import hashlib
import heapq
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import cv2
import numpy as np
import pyarrow as pa
import torch

from infra.freed_memory import keep_freed_memory
from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import decode, render, to_input
from models.losses.targets import Targets
from models.losses.terms import Term
from models.networks.build import Built
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective, Setting
from models.training.trainer import Trainer
from tasks.distill.request import precision_on
from tasks.ingest.pixels import ImageRecipe, UnreadableError, encode_image
from tasks.sources.base import Source, SourceFileChangedError
from tasks.spec import TrainSection

MOST = 200
KEPT = 16
CALLS = 50
"""Most calls of what is measured: a plan says minutes, and the mean of so many short ones tells them."""

LARGE = 20_000_000  # parameters above which a whole batch may not fit into memory
SMALL_BATCH = 4


@dataclass(frozen=True)
class ImageSample:
    """What reading some images of a corpus showed."""

    tried: int
    reasons: list[str]  # why some were not readable, without naming them
    image_seconds: float  # of one worker thread, from the file to the bytes of a shard
    image_bytes: float  # in a shard, headers and padding included
    images: list[np.ndarray]  # some of them as stored, RGB uint8 [H, W, 3]
    overlays: list[tuple[int, bool]] = field(default_factory=list)  # label of each looked at, and whether it has one


def sample_images(
    source: Source, files: pa.Table, recipe: ImageRecipe, *, most: int = MOST, seconds: float = 3.0
) -> ImageSample:
    """Read images spread over the corpus as an ingest would, until `most` are done or the time is over.

    Args:
        files: columns path and stamp, as the source lists them, and label, a class number or -1.
    """
    rows = zip(*(files[name].to_pylist() for name in ("path", "stamp", "label")), strict=True)
    spread = heapq.nsmallest(most, rows, key=lambda row: hashlib.sha256(row[0].encode()).digest())
    sources = [partial(source.read, path, stamp) for path, stamp, _ in spread]
    return sample_sources(sources, recipe, labels=[label for *_, label in spread], seconds=seconds)


def sample_sources(
    sources: Sequence[Callable[[], bytes]],
    recipe: ImageRecipe,
    *,
    labels: Sequence[int] | None = None,
    seconds: float = 3.0,
) -> ImageSample:
    """Like `sample_images`, from functions that give a source file's bytes."""
    reasons: list[str] = []
    sizes: list[int] = []
    images: list[np.ndarray] = []
    overlays: list[tuple[int, bool]] = []
    tried, start = 0, time.perf_counter()
    with _threads(1):
        for source, label in zip(sources, labels or [-1] * len(sources), strict=True):
            if tried and time.perf_counter() - start > seconds:
                break
            tried += 1
            try:
                encoded = encode_image(source(), recipe)
            except (UnreadableError, OSError, SourceFileChangedError) as error:
                reasons.append(str(error))
                continue
            stored = encoded.data
            sizes.append(in_tar(len(stored)))
            if encoded.overlay is not None:
                overlays.append((label, encoded.overlay))
            if len(images) < KEPT:
                images.append(decode(stored))
        took = time.perf_counter() - start
    mean = float(np.mean(sizes)) if sizes else 0.0
    return ImageSample(tried, reasons, took / max(1, tried), mean, images, overlays)


def in_tar(size: int) -> int:
    """Bytes of an image and its json in a tar: two headers, both padded."""
    return 3 * tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def view_seconds(images: Sequence[np.ndarray], recipe: ViewRecipe, *, seconds: float = 0.5) -> float:
    """Seconds of one thread for one rendered view with its input tensor; 0 without images."""
    if not images:
        return 0.0

    def once(number: int) -> None:
        image = images[number % len(images)]
        to_input(render(image, recipe, draw(recipe, 1, str(number)))[None], recipe.size, (0.5,) * 3, (0.5,) * 3)

    with _threads(1):
        return _each(once, seconds)


def forward_seconds(
    module: torch.nn.Module, side: int, batch: int, *, threads: int, device: str, seconds: float = 2.0
) -> float:
    """Seconds an image of a forward pass in eager float32, channels_last: the reference engine, and evaluation."""
    module = module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = _affordable(module, batch)
    x_B3HW = torch.zeros(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)

    def once(_: int) -> None:
        # The copy back waits for the device.
        module(x_B3HW).float().cpu()

    with _threads(threads), torch.inference_mode():
        module.eval()
        return _each(once, seconds) / batch


def step_seconds(
    built: Built,
    terms: Sequence[Term],
    train: TrainSection,
    side: int,
    *,
    classes: int,
    teachers: Sequence[str],
    threads: int,
    device: str,
    seconds: float = 2.0,
) -> float:
    """Seconds of one optimiser step, by the real trainer on random input.

    Args:
        terms: those on labels and on logits; features are not at hand here.
        teachers: K names, of those whose logits a sample brings.
    """
    batch = _affordable(built.module, train.batch)
    config = TrainConfig(
        steps=1,
        lr=train.lr,
        optimizer=train.optimizer,
        weight_decay=train.weight_decay,
        ema_share=train.ema_share,
        clip=train.clip,
        precision=precision_on(train, device),
    )
    many = any(term.loss in ("binary", "soft_binary") for term in terms)
    generator = torch.Generator().manual_seed(0)
    data = Batch(
        x_B3HW=torch.randn(batch, 3, side, side, generator=generator),
        targets=Targets(
            label_B=torch.zeros(batch, dtype=torch.int64),
            labels_BC=torch.zeros(batch, classes) if many else None,
            teacher_KBC=torch.zeros(len(teachers), batch, classes) if teachers else None,
            valid_B=torch.ones(batch, dtype=torch.bool),
            weight_B=torch.ones(batch),
        ),
        keys=[],
    )
    with _threads(threads):
        # Losses on features alone leave no term here.
        setting = Setting(classes, prior=(1 / classes,) * classes, names=tuple(teachers))
        objective = Objective(list(terms) or [Term("cross_entropy")], setting)
        trainer = Trainer(built.module, objective, config, device)

        def once(_: int) -> None:
            trainer.config = replace(config, steps=trainer.step + 1)
            trainer.fit(iter([data]))

        return _each(once, seconds) * train.batch / batch


def _affordable(module: torch.nn.Module, batch: int) -> int:
    # Time grows with the batch, so that of a large batch follows from a small one.
    large = sum(p.numel() for p in module.parameters()) > LARGE
    return min(batch, SMALL_BATCH) if large else batch


def _each(once: Callable[[int], None], seconds: float) -> float:
    """Mean seconds of a call; the first one counts only where one alone takes as long as there is."""
    start = time.perf_counter()
    once(0)
    first = time.perf_counter() - start
    if first > seconds:
        return first
    done, start = 0, time.perf_counter()
    while done < CALLS and time.perf_counter() - start < seconds:
        done += 1
        once(done)
    return (time.perf_counter() - start) / done


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """This process computes with `count` threads, as a worker would; afterwards as before."""
    before, before_cv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(1)
    try:
        with keep_freed_memory():
            yield
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(before_cv)
