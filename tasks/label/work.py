"""The worker's side of labelling: read, render, ask the teacher, store. May run twice without harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
import torch

from infra.cache import StageCache, UnitRecord
from infra.cluster import cores
from infra.errors import UsageError
from infra.store import Store, open_store
from models.build import Built, build
from models.views import draw, render, to_input
from tasks.images import load_image
from tasks.label.job import STAGE, LabelJob, TeacherModel
from tasks.label.soft_labels import keep, write_soft_labels
from tasks.weights import PYPI, weights_file

_NETWORKS: dict[tuple[str, str], Built] = {}
_LOADING = threading.Lock()
# A pass on a CPU is fastest while its activations fit the cache: EfficientNet-Lite0 at 224 px labels 41 images a
# CPU second in batches of 8, and 27 in batches of 32; at 96 px batches of 32 are the better ones.
_CPU_PIXELS = 8 * 224**2


def label_shard(job: LabelJob) -> list[UnitRecord]:
    """Label some views of one shard: store a soft-label file and leave a record for each.

    Raises:
        CorruptError: an image's bytes are not those ingested, or no image; shard and key are named.
        UsageError: the teacher cannot be built, or its weights have another head.
    """
    threads = max(1, cores() // job.share)
    # The nanny sets OMP_NUM_THREADS=1, which torch takes for its limit.
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    store = open_store(job.store)
    network = _network(job.teacher, job.device, store)
    logits = np.empty((len(job.views), len(job.shard), job.teacher.num_classes), dtype=np.float32)
    for rows, views in _batches(job, store, threads):
        for number, images in enumerate(views):
            logits[number, rows] = _ask(network, images, job.teacher.size, job.device)
    return [_store_view(job, store, view, key, logits[n]) for n, (view, key) in enumerate(job.views)]


def _store_view(job: LabelJob, store: Store, view: int, key: str, logits: np.ndarray) -> UnitRecord:
    cache = StageCache(store)
    soft = keep(logits)
    output = cache.put_object(
        job.object_name(view, key),
        write_soft_labels(soft),
        id=key,
        unit=key,
        samples=len(job.shard),
        meta={"invalid": soft.invalid},
    )
    record = UnitRecord(key, (output,))
    cache.record(STAGE, record)
    return record


def _batches(job: LabelJob, store: Store, threads: int) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Rows, and for each view of the job uint8 [B, S, S, 3]; the next batch is made while one is in use."""

    def prepare(row: int) -> list[np.ndarray]:
        image = load_image(store, job.shard, row)
        key = str(job.shard.keys[row])
        return [render(image, job.recipe, draw(job.recipe, view, key)) for view, _ in job.views]

    def ahead(start: int) -> list[Future[list[np.ndarray]]]:
        return [pool.submit(prepare, row) for row in range(start, min(start + job.batch, len(job.shard)))]

    with ThreadPoolExecutor(threads, thread_name_prefix="views") as pool:
        coming = ahead(0)
        for start in range(0, len(job.shard), job.batch):
            ready, coming = coming, ahead(start + job.batch)
            try:
                images = [future.result() for future in ready]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            yield slice(start, start + len(images)), [np.stack(each) for each in zip(*images, strict=True)]


def _ask(network: Built, images: np.ndarray, size: int, device: str) -> np.ndarray:
    x_B3HW = torch.from_numpy(to_input(images, size, network.mean, network.std)).to(device)
    step = len(images) if device == "cuda" else max(1, _CPU_PIXELS // size**2)
    with torch.inference_mode():
        logits = [
            network.module(part.contiguous(memory_format=torch.channels_last)).float().cpu()
            for part in x_B3HW.split(step)
        ]
    return np.asarray(torch.cat(logits).numpy())


def _network(teacher: TeacherModel, device: str, store: Store) -> Built:
    """The teacher, loaded once in the life of this process."""
    with _LOADING:
        known = _NETWORKS.get((teacher.id, device))
        if known is None:
            known = _NETWORKS[(teacher.id, device)] = _load(teacher, device, store)
        return known


def _load(teacher: TeacherModel, device: str, store: Store) -> Built:
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("a worker that offers the resource GPU sees no CUDA device; check its driver and torch")
    path = weights_file(teacher.weights, teacher.model, store)
    pypi = teacher.weights.where == PYPI
    try:
        built = build(
            teacher.model,
            num_classes=teacher.num_classes,
            options=teacher.options,
            weights=None if pypi else path,
            pypi=pypi,
            size=teacher.size,
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"teacher {teacher.name}: {error}") from error
    if built.head_reset:
        raise UsageError(
            f"teacher {teacher.name}: the head of its weights has other classes than the corpus's "
            f"{teacher.num_classes}; add `train:` to fine-tune it"
        )
    built.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return built
