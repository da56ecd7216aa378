"""Prediction as a worker does it, with one image that kills the process that reads it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import UnitRecord
from infra.storage.store import open_store
from tasks.data.corpus import Corpus
from tasks.evaluate import predict

KEY = "test-0003"


def predict_shard(job: predict.PredictJob) -> UnitRecord:
    """`tasks.evaluate.predict.predict_shard`, unless it is to read the image."""
    skipped = dict(job.skip)
    _die_of(job, [row for row in range(_rows(job)) if row not in skipped])
    return predict.predict_shard(job)


def probe_predictions(job: predict.PredictJob, rows: Sequence[int]) -> None:
    _die_of(job, rows)
    predict.probe_predictions(job, rows)


def _rows(job: predict.PredictJob) -> int:
    return len(_corpus(job).shards[job.shard])


def _die_of(job: predict.PredictJob, rows: Sequence[int]) -> None:
    keys = _corpus(job).shards[job.shard].keys
    if any(str(keys[row]) == KEY for row in rows):
        os.kill(os.getpid(), signal.SIGKILL)


def _corpus(job: predict.PredictJob) -> Corpus:
    store, name = open_store(job.store), job.corpus
    return Corpus(store, Manifest.from_bytes(store.get(name), name))
