"""What a Dask worker does for the evaluation: predictions of one model, or simple features, for one shard.

Both are idempotent and leave a unit record, so a rerun computes nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from infra.storage.stage_cache import StageCache, UnitRecord
from models.augmentation.rendering import Recipe, draw, render, to_input
from tasks.data.corpus import Corpus
from tasks.data.trained_network import _corpus, _image, _network
from tasks.evaluate.baselines import border, thumbnail

STAGE = "predict"


@dataclass(frozen=True)
class PredictJob:
    """One model on one shard at view 0; names and numbers, never a module."""

    key: str
    store: str
    ingest: str
    shard: int
    model_stage: str
    model_key: str
    model_sha256: str
    batch: int
    threads: int
    device: str


@dataclass(frozen=True)
class FeatureJob:
    """Thumbnails and borders of chosen rows of one shard."""

    key: str
    store: str
    ingest: str
    shard: int
    rows: tuple[int, ...]


def predict_shard(job: PredictJob) -> UnitRecord:
    """Logits float32 [N, C] of every image of the shard, rows in shard order.

    Raises:
        CorruptError: an image or the model's file is not what the store promises.
        PermanentError: the stored weights do not fit the model that their manifest names.
    """
    torch.set_num_threads(job.threads)
    corpus = _corpus(job.store, job.ingest)
    shard = corpus.shards[job.shard]
    network = _network(job.store, job.model_stage, job.model_key, job.model_sha256, job.device)
    recipe = Recipe(size=network.view_size)
    logits = []
    for start in range(0, len(shard), job.batch):
        rows = range(start, min(start + job.batch, len(shard)))
        views = np.stack([render(_image(corpus, shard, r), recipe, draw(recipe, 0, str(shard.keys[r]))) for r in rows])
        x = torch.from_numpy(to_input(views, network.input_size, network.mean, network.std)).to(job.device)
        with torch.inference_mode():
            logits.append(network.module(x).float().cpu().numpy())
    return _keep(corpus, job.key, "logits", {"logits": np.concatenate(logits)}, len(shard))


def feature_shard(job: FeatureJob) -> UnitRecord:
    """`thumbnail` float32 [n, 768] and `border` float32 [n, 180] of the chosen rows; CorruptError as above."""
    corpus = _corpus(job.store, job.ingest)
    shard = corpus.shards[job.shard]
    images = [_image(corpus, shard, row) for row in job.rows]
    features = {
        "thumbnail": np.stack([thumbnail(image) for image in images]),
        "border": np.stack([border(image) for image in images]),
    }
    return _keep(corpus, job.key, "features", features, len(images))


def _keep(corpus: Corpus, key: str, kind: str, arrays: dict[str, Any], samples: int) -> UnitRecord:
    cache = StageCache(corpus.store)
    output = cache.put_object(
        f"predictions/{corpus.title}/{kind}-{key[:16]}-{{sha8}}.safetensors",
        save({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in arrays.items()}),
        id=key,
        samples=samples,
        unit=key,
        meta={"kind": kind},
    )
    record = UnitRecord(key, (output,))
    cache.record(STAGE, record)
    return record
