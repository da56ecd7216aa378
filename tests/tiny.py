"""Tiny corpora for tests, written straight to the contracts of tasks/data/catalog.py and tasks/data/corpus.py."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from infra.digest import digest_of, sha256_bytes
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data.catalog import CATALOG, INDEX, OK, to_parquet
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import to_soft_labels, write_soft_labels


@dataclass(frozen=True)
class _Item:
    key: str
    split: str
    label: int
    labels: list[int] | None
    data: bytes


def tiny_corpus(
    store: LocalStore,
    *,
    train: int = 24,
    val: int = 8,
    test: int = 8,
    classes: int = 3,
    size: int = 40,
    seed: int = 0,
    task: str = "single",
    unlabelled: int = 8,
    shard_size: int = 16,
    title: str = "tiny",
    modality: str = "other",
    black: Sequence[str] = (),
) -> Corpus:
    """An ingested corpus of generated PNG images whose stripes and tint tell the class.

    Args:
        train: labelled training images; `unlabelled` more of the split come after them.
        size: side of the square images in pixels.
        task: single, ordinal or multilabel (each class then adds its own stripes).
        black: keys of images without anything in them.
        shard_size: images a shard; equal arguments but for more `train` begin with equal shards.
    """
    counts = {"train": train + unlabelled, "val": val, "test": test}
    items = [
        _item(split, number, classes, size, seed, task, labelled=split != "train" or number < train)
        for split, count in counts.items()
        for number in range(count)
    ]
    nothing = cv2.imencode(".png", np.zeros((size, size, 3), dtype=np.uint8))[1].tobytes()
    items = [replace(item, data=nothing) if item.key in black else item for item in items]
    cache = StageCache(store)
    outputs: list[Output] = []
    index: list[dict[str, Any]] = []
    for split in counts:
        own = [item for item in items if item.split == split]
        for number, start in enumerate(range(0, len(own), shard_size)):
            tar, rows = _shard(own[start : start + shard_size], len(outputs))
            name = f"shards/{title}/{split}-{number:05d}-{{sha8}}.tar"
            meta = {"kind": "shard", "split": split}
            outputs.append(cache.put_object(name, tar, samples=len(rows), meta=meta))
            index += rows
    tables = {
        "catalog": to_parquet(_catalog(items), CATALOG),
        "index": to_parquet(pa.Table.from_pylist(index, schema=INDEX), INDEX),
    }
    for kind, data in tables.items():
        outputs.append(cache.put_object(f"{kind}s/{title}/{{sha}}.parquet", data, meta={"kind": kind}))
    manifest = Manifest(
        stage="ingest",
        version=1,
        key=digest_of([title, *([] if modality == "other" else [modality]), [output.id for output in outputs]]),
        inputs=[],
        section={"ingest": {"encode": "png", "size": None, "crop": "none", "quality": 92, "max_pixels": 10**8}},
        outputs=outputs,
        facts={
            "corpus": title,
            "task": task,
            "classes": [f"class-{number}" for number in range(classes)],
            "modality": modality,
        },
    )
    return Corpus(store, cache.commit(manifest))


def _item(split: str, number: int, classes: int, size: int, seed: int, task: str, *, labelled: bool) -> _Item:
    rng = np.random.default_rng([seed, ("train", "val", "test").index(split), number])
    single = int(rng.integers(classes)) if number >= classes else number
    many = (rng.random(classes) < 0.4).astype(int)
    shown = np.flatnonzero(many) if task == "multilabel" else np.array([single])
    image = rng.normal(110, 20, (size, size, 3))
    ramp = np.arange(size) / size
    for kind in shown:
        wave = 45 * np.sin(2 * np.pi * (2 + 3 * kind) * ramp + rng.uniform(0, 2 * np.pi))
        image += wave[:, None, None] if kind % 2 else wave[None, :, None]
        image[..., kind % 3] += 30
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    known = labelled and task != "multilabel"
    labels = [int(v) for v in many] if labelled else [-1] * classes
    return _Item(
        f"{split}-{number:04d}", split, single if known else -1, labels if task == "multilabel" else None, data
    )


def _shard(items: list[_Item], shard: int) -> tuple[bytes, list[dict[str, Any]]]:
    sink = io.BytesIO()
    rows = []
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, item in enumerate(items):
            note = json.dumps({"label": item.label}).encode()
            for name, data in ((f"{item.key}.png", item.data), (f"{item.key}.json", note)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                if data is item.data:
                    offset = sink.tell() - _padded(len(data))
            rows.append(
                {
                    "shard": shard,
                    "row": row,
                    "key": item.key,
                    "ext": "png",
                    "offset": offset,
                    "size": len(item.data),
                    "crc32": zlib.crc32(item.data),
                    "source_sha256": sha256_bytes(item.data),
                    "label": item.label,
                    "labels": item.labels,
                }
            )
    return sink.getvalue(), rows


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _catalog(items: list[_Item]) -> pa.Table:
    def rows() -> Iterator[dict[str, Any]]:
        for item in sorted(items, key=lambda item: item.key):
            number = int(item.key.rpartition("-")[2])
            yield {
                **{name: "" for name in ("exam", "eye", "site", "camera", "date", "sex", "projection", "reason")},
                "age": float("nan"),
                "key": item.key,
                "source": f"{item.key}.png",
                "source_sha256": sha256_bytes(item.data),
                "label": item.label,
                "labels": item.labels,
                "patient": f"{item.split}-patient-{number // 2}",
                "split": item.split,
                "leak": False,
                "width": 0,
                "height": 0,
                "quality": float("nan"),
                "status": OK,
            }

    return pa.Table.from_pylist(list(rows()), schema=CATALOG)


def tiny_labels(
    corpus: Corpus,
    teacher: str,
    logits_of: Callable[[Shard, int], np.ndarray],
    *,
    views: int = 0,
    val_views: int = 0,
    partner: Callable[[Shard, int], np.ndarray | None] = lambda shard, view: None,
) -> Manifest:
    """A label manifest whose logits the test chooses, without a network.

    Args:
        logits_of: (shard, view) -> float32 [N, C].
        views: random views of training shards beside the plain view of every shard.
        val_views: random views of validation shards.
        partner: (shard, view) -> int32 [N], or None where the view is not mixed.
    """
    cache = StageCache(corpus.store)
    outputs = []
    random = {"train": views, "val": val_views}
    for number, shard in enumerate(corpus.shards):
        for view in range(1 + random.get(shard.split, 0)):
            soft = to_soft_labels(logits_of(shard, view), partner=partner(shard, view))
            unit = digest_of([teacher, shard.id, view])
            outputs.append(
                cache.put_object(
                    f"labels/{corpus.title}/{teacher}/view-{view}/{unit[:16]}-{{sha8}}.safetensors",
                    write_soft_labels(soft),
                    id=unit,
                    unit=unit,
                    samples=len(shard),
                    meta={
                        "kind": "soft",
                        "shard": number,
                        "split": shard.split,
                        "view": view,
                        "teacher": teacher,
                        "invalid": soft.invalid,
                    },
                )
            )
    manifest = Manifest(
        stage="label",
        version=1,
        key=digest_of([teacher, [(output.id, output.sha256) for output in outputs]]),
        inputs=[shard.id for shard in corpus.shards],
        section={"teacher": teacher},
        outputs=outputs,
    )
    return cache.commit(manifest)
