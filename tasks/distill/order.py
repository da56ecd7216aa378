"""From a request to the job that a worker gets: where it runs, with how many processes, by which metric it goes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np

from infra.compute.cluster import Cluster, cores
from infra.errors import UsageError
from infra.storage.store import Store
from models.statistics.metrics import LOWER_IS_BETTER, main_metric, names
from models.training import TrainConfig
from tasks.data.corpus import Corpus
from tasks.data.weights import WeightsRef
from tasks.distill.job import Sampling, TrainJob
from tasks.distill.request import DISTILL, Request, precision_on
from tasks.spec import Spec

LOG_POINTS = 20
"""Rows of a history, beside those of validations."""

DECIDED = ("steps", "precision", "keep", "log_every", "higher_is_better")
"""Fields of TrainConfig that are not copied from the spec."""


def order(
    request: Request,
    key: str,
    weights: WeightsRef,
    corpus: Corpus,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    device: str,
    side_by_side: int,
) -> TrainJob:
    """The job of a training.

    Args:
        device: cpu or cuda.
        side_by_side: trainings that share this host's cores.

    Raises:
        UsageError: `train.metric` is none of the task's, or there is nothing that it could be measured on.
    """
    train, run = request.train, spec.run.train
    metric = _metric(request, corpus)
    return TrainJob(
        stage=request.stage,
        key=key,
        arm=request.arm,
        seed=request.seed,
        store=store.url,
        ingest=corpus.manifest.key,
        labels=tuple(manifest.key for manifest in request.labels),
        select=request.select.key if request.select else None,
        model=request.model.model,
        options=request.model.options,
        input_size=request.model.size or spec.views.size,
        weights=weights,
        views=spec.views.resolved(corpus.modality).identity(),
        terms=tuple(request.terms),
        config=_config(request, metric, device),
        batch=train.batch,
        device=device,
        threads=run.threads or max(1, cores() // max(1, min(side_by_side, cluster.slots))),
        sampling=_sampling(request, spec),
        online=request.online,
        metric=f"val_{metric}",
        ranks=ranks_on(cluster, device, run.devices or 1),
        loaders=run.loaders,
        compile=run.compile,
        restarts=run.restarts,
        fold=request.fold,
        input=request.input,
    )


def ranks_on(cluster: Cluster, device: str, wanted: int) -> int:
    """Processes of a training: as many as wanted, on GPUs at most those of one host."""
    if device != "cuda" or wanted == 1:
        return wanted
    hosts: Counter[str] = Counter()
    for worker in cluster.workers():
        hosts[worker["host"]] += int(worker["resources"].get("GPU", 0))
    return max(1, min(wanted, max(hosts.values(), default=1)))


def resources_of(cluster: Cluster, resources: dict[str, float] | None, ranks: int) -> dict[str, float] | None:
    """What a training asks of its worker: all its GPUs, where one worker owns them."""
    if resources is None:
        return None
    whole = any(worker["resources"].get("GPU", 0) >= ranks for worker in cluster.workers())
    return {"GPU": ranks} if whole else resources


def _sampling(request: Request, spec: Spec) -> Sampling:
    train = request.train
    if request.stage != DISTILL:
        return Sampling(classes=train.sampling, ratio=train.unlabelled_ratio)
    # The arm on labels alone has the same section, and no use for what it says of the pool.
    taught = bool(request.labels or request.online)
    return Sampling(
        pool=spec.student.pool if taught else "all",
        classes=train.sampling,
        ratio=train.unlabelled_ratio if taught else None,
    )


def _config(request: Request, metric: str, device: str) -> TrainConfig:
    train = request.train
    taken = {field.name for field in fields(TrainConfig)} - set(DECIDED)
    values: dict[str, Any] = {name: value for name, value in train.model_dump().items() if name in taken}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return TrainConfig(
        steps=request.steps,
        precision=precision_on(train, device),
        keep=train.keep or ("best" if train.early_stop is not None else "last"),
        log_every=math.ceil(request.steps / LOG_POINTS),
        higher_is_better=metric not in LOWER_IS_BETTER,
        **values,
    )


def _metric(request: Request, corpus: Corpus) -> str:
    train, known = request.train, names(corpus.task)
    metric = train.metric or main_metric(corpus.task)
    if metric not in known:
        raise UsageError(f"train.metric: {metric} is not measured on {corpus.task} corpora; {', '.join(known)} are")
    if train.judged and not any(np.any(shard.labelled) for shard in corpus.of_split("val")):
        raise UsageError(
            f"{request.arm}: schedule plateau, early_stop and keep: best go by the validation images, and no image of "
            f"split val of {corpus.title} has a label"
        )
    return metric
