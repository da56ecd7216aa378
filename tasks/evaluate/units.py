"""The units of an evaluation: logits of each model and features of the labelled images, a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays

from infra.compute.cluster import Cluster, cores
from infra.compute.fan_out import Job, fan_out
from infra.digest import digest_of, unit_key
from infra.errors import PermanentError, StillroomError, TransientError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, UnitRecord
from tasks.data.corpus import Corpus
from tasks.spec import Spec

VERSION = 1
JUDGED = ("val", "test")

Step = Callable[[int, int], None]


@dataclass(frozen=True)
class _Unit:
    """One job: logits of (model, shard), or features of a shard when the model is -1."""

    key: str
    model: int
    shard: int


def compute(
    corpus: Corpus,
    models: Sequence[Manifest],
    spec: Spec,
    cache: StageCache,
    cluster: Cluster,
    progress: Step | None,
    stop: Callable[[], bool] | None,
) -> tuple[dict[tuple[int, int], np.ndarray], dict[int, dict[str, np.ndarray]]]:
    """Logits by (model, shard) and features by shard, made on the cluster where the store has none yet."""
    from tasks.evaluate.predict import STAGE as UNITS

    units = _units(corpus, models, spec)
    done = cache.recorded(UNITS, [unit.key for unit in units], verify=spec.run.verify)
    todo = [unit for unit in units if unit.key not in done]
    if progress is not None:
        progress(len(done), len(units))
    if todo:
        for record in _run(corpus, models, spec, cluster, todo, stop):
            done[record.key] = record
            if progress is not None:
                progress(len(done), len(units))
    logits: dict[tuple[int, int], np.ndarray] = {}
    features: dict[int, dict[str, np.ndarray]] = {}
    for unit in units:
        arrays = load_arrays(cache.store.get(done[unit.key].outputs[0].name))
        if unit.model >= 0:
            logits[unit.model, unit.shard] = arrays["logits"]
        else:
            features[unit.shard] = arrays
    return logits, features


def _units(corpus: Corpus, models: Sequence[Manifest], spec: Spec) -> list[_Unit]:
    units = []
    judged = [(i, s) for i, s in enumerate(corpus.shards) if s.split in JUDGED and s.labelled.any()]
    for m, model in enumerate(models):
        kept = ("model", "options", "view_size", "input_size", "mean", "std")
        section = {"view": 0, **{k: model.facts[k] for k in kept}}
        weights = [model.output(kind="model").id]
        for i, shard in judged:
            key = unit_key("predict", VERSION, inputs=[shard.id], section=section, weights=weights)
            units.append(_Unit(key, m, i))
    if spec.evaluate.baselines:
        for i, shard in enumerate(corpus.shards):
            if shard.labelled.any():
                section = {"rows": digest_of(np.flatnonzero(shard.labelled).tolist())}
                units.append(_Unit(unit_key("features", VERSION, inputs=[shard.id], section=section), -1, i))
    return units


def _run(
    corpus: Corpus,
    models: Sequence[Manifest],
    spec: Spec,
    cluster: Cluster,
    todo: Sequence[_Unit],
    stop: Callable[[], bool] | None,
) -> Any:
    from tasks.evaluate.predict import FeatureJob, PredictJob, feature_shard, predict_shard

    device = "cuda" if spec.run.device != "cpu" and cluster.offers("GPU") else "cpu"
    threads = max(1, cores() // cluster.slots)
    base = {"store": corpus.store.url, "ingest": corpus.manifest.key}
    nets, feats = [], []
    for unit in todo:
        if unit.model < 0:
            rows = tuple(np.flatnonzero(corpus.shards[unit.shard].labelled).tolist())
            feats.append(Job(unit.key, (FeatureJob(key=unit.key, shard=unit.shard, rows=rows, **base),)))
            continue
        model = models[unit.model]
        job = PredictJob(
            key=unit.key,
            shard=unit.shard,
            model_stage=model.stage,
            model_key=model.key,
            model_sha256=model.output(kind="model").sha256,
            batch=spec.run.predict_batch,
            threads=threads,
            device=device,
            **base,
        )
        nets.append(Job(unit.key, (job,)))
    for function, jobs, resources in (
        (feature_shard, feats, None),
        (predict_shard, nets, {"GPU": 1.0} if device == "cuda" else None),
    ):
        window = fan_out(cluster, function, jobs, attempts=spec.run.attempts, resources=resources, stop=stop)
        with closing(window) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome.error, StillroomError):
                    raise outcome.error
                if outcome.error is not None:
                    kind = PermanentError if isinstance(outcome.error, ValueError | TypeError) else TransientError
                    raise kind(f"evaluate, unit {outcome.job.key[:12]}: {outcome.error!r}") from outcome.error
                yield UnitRecord.from_bytes(outcome.value.to_bytes())
