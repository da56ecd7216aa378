"""What a Dask worker does for the evaluation: predictions of one model, or simple features, for one shard.

Both are idempotent and leave a unit record, so a rerun computes nothing twice. Rows to skip are not touched; their
values are NaN, and the record's quarantine names their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from infra.storage.manifest import Quarantined
from infra.storage.stage_cache import StageCache, UnitRecord
from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import render, to_input
from tasks.data.corpus import Corpus, Shard
from tasks.data.trained_network import cached_corpus, cached_network, stored_image
from tasks.evaluate.baselines import BORDER_VALUES, THUMBNAIL_VALUES, border, thumbnail
from tasks.evaluate.scope import PREDICT_STAGE


@dataclass(frozen=True)
class PredictJob:
    """One model on one view of one shard; names and numbers, never a module."""

    key: str
    store: str
    corpus: str
    shard: int
    model_stage: str
    model_key: str
    model_sha256: str
    batch: int
    threads: int
    device: str
    view: int = 0
    recipe: ViewRecipe | None = None  # of a random view
    skip: tuple[tuple[int, str], ...] = ()  # rows that must not be touched, and why


@dataclass(frozen=True)
class FeatureJob:
    """Thumbnails and borders of chosen rows of one shard."""

    key: str
    store: str
    corpus: str
    shard: int
    rows: tuple[int, ...]
    skip: tuple[tuple[int, str], ...] = ()


def predict_shard(job: PredictJob) -> UnitRecord:
    """Logits float32 [N, C] of every image of the shard, rows in shard order.

    Raises:
        CorruptError: an image or the model's file is not what the store promises.
        PermanentError: the stored weights do not fit the model that their manifest names.
    """
    corpus = cached_corpus(job.store, job.corpus)
    shard, skipped = corpus.shards[job.shard], dict(job.skip)
    rows = [row for row in range(len(shard)) if row not in skipped]
    logits = np.full((len(shard), len(corpus.classes)), np.nan, dtype=np.float32)
    if rows:
        logits[rows] = _logits(job, corpus, rows)
    return _store(corpus, job, "logits", {"logits": logits}, len(shard))


def probe_predictions(job: PredictJob, rows: Sequence[int]) -> None:
    """Predict some rows and store nothing: for the search for rows that kill the process."""
    _logits(job, cached_corpus(job.store, job.corpus), rows)


def feature_shard(job: FeatureJob) -> UnitRecord:
    """`thumbnail` float32 [n, 768] and `border` float32 [n, 180] of the chosen rows; CorruptError as above."""
    corpus = cached_corpus(job.store, job.corpus)
    skipped = dict(job.skip)
    places = [place for place, row in enumerate(job.rows) if row not in skipped]
    found = _features(job, corpus, [job.rows[place] for place in places])
    features = {}
    for name, width in (("thumbnail", THUMBNAIL_VALUES), ("border", BORDER_VALUES)):
        features[name] = np.full((len(job.rows), width), np.nan, dtype=np.float32)
        if places:
            features[name][places] = found[name]
    return _store(corpus, job, "features", features, len(job.rows))


def probe_features(job: FeatureJob, rows: Sequence[int]) -> None:
    """As `probe_predictions`."""
    _features(job, cached_corpus(job.store, job.corpus), rows)


def _logits(job: PredictJob, corpus: Corpus, rows: Sequence[int]) -> np.ndarray:
    torch.set_num_threads(job.threads)
    shard = corpus.shards[job.shard]
    network = cached_network(job.store, job.model_stage, job.model_key, job.model_sha256, job.device)
    recipe = job.recipe or ViewRecipe(size=network.view_size)
    logits = []
    for start in range(0, len(rows), job.batch):
        block = rows[start : start + job.batch]
        views = np.stack(
            [render(stored_image(corpus, shard, r), recipe, draw(recipe, job.view, str(shard.keys[r]))) for r in block]
        )
        x = torch.from_numpy(to_input(views, network.input_size, network.mean, network.std)).to(job.device)
        with torch.inference_mode():
            logits.append(network.module(x).float().cpu().numpy())
    return np.concatenate(logits)


def _features(job: FeatureJob, corpus: Corpus, rows: Sequence[int]) -> dict[str, list[np.ndarray]]:
    images = [stored_image(corpus, corpus.shards[job.shard], row) for row in rows]
    return {"thumbnail": [thumbnail(image) for image in images], "border": [border(image) for image in images]}


def _store(corpus: Corpus, job: PredictJob | FeatureJob, kind: str, arrays: dict[str, Any], samples: int) -> UnitRecord:
    cache = StageCache(corpus.store)
    output = cache.put_object(
        f"predictions/{corpus.title}/{kind}-{job.key[:16]}-{{sha8}}.safetensors",
        save({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in arrays.items()}),
        id=job.key,
        samples=samples,
        unit=job.key,
        meta={"kind": kind},
    )
    record = UnitRecord(job.key, (output,), quarantine=_quarantine(corpus.shards[job.shard], job.skip))
    cache.record(PREDICT_STAGE, record)
    return record


def _quarantine(shard: Shard, skip: Sequence[tuple[int, str]]) -> tuple[Quarantined, ...]:
    return tuple(Quarantined(source=str(shard.keys[row]), reason=why, stage=PREDICT_STAGE) for row, why in skip)
