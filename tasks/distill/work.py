"""The worker's side of a training: build, resume, train, validate, store."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from infra.cache import StageCache, UnitRecord
from infra.digest import canonical_json
from infra.errors import PermanentError, UsageError
from infra.manifest import Manifest, manifest_name
from infra.stopping import stop_check
from infra.store import Store, open_store
from models.build import Built, build
from models.losses import Objective
from models.metrics import metrics, probabilities
from models.training import DivergedError, Trainer
from models.view_draws import Recipe, draw
from models.views import render, to_input
from tasks.corpus import Corpus
from tasks.distill.data import IMAGES, TrainData
from tasks.distill.job import TrainJob
from tasks.label.folds import WithoutFold
from tasks.label.lookup import Teaching
from tasks.select import read_weights
from tasks.weights import PYPI, weights_file

LOG_POINTS = 10
VAL_POINTS = 5


def train(job: TrainJob) -> UnitRecord:
    """Run a training to its end on this worker; idempotent, resumes from the last checkpoint.

    Returns:
        The unit's record: model, history and the facts of the model.

    Raises:
        PermanentError: the loss diverged; the text names the batch's keys.
        CancelledError: the flow asked to stop.
    """
    torch.set_num_threads(job.threads)
    store = open_store(job.store)
    corpus = Corpus(store, _manifest(store, "ingest", job.ingest))
    if job.fold is not None:
        corpus = WithoutFold(corpus, *job.fold)
    built = _network(job, store, len(corpus.classes))
    recipe = Recipe.from_values(job.views)
    data = TrainData(
        corpus,
        recipe,
        int(job.views["count"]),
        Teaching(corpus, [_manifest(store, "label", key) for key in job.labels]) if job.taught else None,
        read_weights(store, _manifest(store, "select", job.select)) if job.select else {},
        seed=job.seed,
        batch=job.batch,
        size=job.input_size,
        mean=built.mean,
        std=built.std,
    )
    torch.manual_seed(job.seed)
    trainer = Trainer(built.module, Objective(job.terms), job.config, job.device)
    history = _resume(store, job, trainer)
    validate = _validator(corpus, built, recipe, job)
    log = _logger(job, trainer, history, validate)
    try:
        trainer.fit(
            data.batches(trainer.step, job.config.steps),
            on_log=log,
            on_checkpoint=lambda step, state: _checkpoint(store, job, step, state, history),
            stop=stop_check(job.topic),
        )
    except DivergedError as error:
        raise PermanentError(f"{job.arm} seed {job.seed}: {error}") from error
    return _keep(store, corpus, job, trainer, built, history)


def _network(job: TrainJob, store: Store, classes: int) -> Built:
    path = weights_file(job.weights, job.model, store)
    pypi = job.weights.where == PYPI
    try:
        built = build(
            job.model,
            num_classes=classes,
            options=job.options,
            weights=None if pypi else path,
            pypi=pypi,
            seed=job.seed,
            size=job.input_size,
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"{job.arm}: {error}") from error
    return built if job.input is None else replace(built, mean=job.input[0], std=job.input[1])


def _manifest(store: Store, stage: str, key: str) -> Manifest:
    name = manifest_name(stage, key)
    return Manifest.from_bytes(store.get(name), name)


def _folder(job: TrainJob) -> str:
    return f"checkpoints/{job.key}/"


def _checkpoint(store: Store, job: TrainJob, step: int, state: bytes, history: list[dict[str, Any]]) -> None:
    """History first, state last: a state under its final name always has its history."""
    store.put(f"{_folder(job)}{step:09d}.json", canonical_json(history))
    store.put(f"{_folder(job)}{step:09d}.pt", state)
    for name in store.sizes(_folder(job)):
        if name.rpartition("/")[2].partition(".")[0] < f"{step:09d}":
            store.delete(name)


def _resume(store: Store, job: TrainJob, trainer: Trainer) -> list[dict[str, Any]]:
    states = sorted(name for name in store.sizes(_folder(job)) if name.endswith(".pt"))
    if not states:
        return []
    trainer.resume(store.get(states[-1]))
    return list(json.loads(store.get(states[-1].removesuffix(".pt") + ".json")))


def _validator(
    corpus: Corpus, built: Built, recipe: Recipe, job: TrainJob
) -> Callable[[dict[str, torch.Tensor]], dict[str, float]]:
    """A function from weights to metrics on the labelled validation images, plain view."""
    shards = corpus.of_split("val")
    rows = [(shard, int(row)) for shard in shards for row in np.flatnonzero(shard.labelled)]
    network = copy.deepcopy(built.module).eval().to(job.device)

    def validate(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        network.load_state_dict(weights)
        logits = []
        for start in range(0, len(rows), 64):
            block = rows[start : start + 64]
            views = np.stack(
                [
                    render(
                        IMAGES.get(corpus, shard, row),
                        recipe,
                        draw(recipe, 0, str(shard.keys[row])),
                    )
                    for shard, row in block
                ]
            )
            x = torch.from_numpy(to_input(views, job.input_size, built.mean, built.std)).to(job.device)
            with torch.inference_mode():
                logits.append(network(x).float().cpu().numpy())
        if not rows:
            return {}
        label = np.array([shard.label[row] for shard, row in rows])
        labels = np.stack([s.labels[r] for s, r in rows]) if shards[0].labels is not None else None  # type: ignore[index]
        found = metrics(corpus.task, probabilities(corpus.task, np.concatenate(logits)), label, labels)
        return {f"val_{name}": float(value) for name, value in found.items() if value is not None}

    return validate


def _logger(
    job: TrainJob,
    trainer: Trainer,
    history: list[dict[str, Any]],
    validate: Callable[[dict[str, torch.Tensor]], dict[str, float]],
) -> Callable[[int, dict[str, float]], None]:
    stride = max(1, LOG_POINTS // VAL_POINTS)

    def log(step: int, means: dict[str, float]) -> None:
        row: dict[str, Any] = {"step": step, **{k: round(v, 6) for k, v in means.items()}}
        last = step == job.config.steps
        if last or (len(history) + 1) % stride == 0:
            row.update({k: round(v, 6) for k, v in validate(trainer.weights()).items()})
        row["epoch"] = len(history)
        history.append(row)
        _tell(job, step)

    return log


def _tell(job: TrainJob, step: int) -> None:
    """Tell the flow how far we are; a training outside a Dask worker has nobody to tell."""
    if job.topic:
        from distributed import get_worker

        get_worker().log_event(job.topic, {"arm": job.arm, "seed": job.seed, "step": step})


def _keep(
    store: Store,
    corpus: Corpus,
    job: TrainJob,
    trainer: Trainer,
    built: Built,
    history: list[dict[str, Any]],
) -> UnitRecord:
    cache = StageCache(store)
    arm = job.arm.replace(":", "-")
    folder = f"models/{corpus.title}/{job.key[:16]}"
    model = cache.put_object(
        f"{folder}/{arm}-seed{job.seed}-{{sha8}}.safetensors",
        save(trainer.weights()),
        id=job.key,
        unit=job.key,
        meta={"kind": "model"},
    )
    curve = cache.put_object(
        f"{folder}/history-{{sha8}}.json",
        canonical_json(history),
        id=f"{job.key}-history",
        unit=job.key,
        meta={"kind": "history"},
    )
    facts = {
        "model": job.model,
        "options": job.options,
        "num_classes": len(corpus.classes),
        "classes": corpus.classes,
        "task": corpus.task,
        "input_size": job.input_size,
        "mean": list(built.mean),
        "std": list(built.std),
        "view_size": int(job.views["size"]),
        "arm": job.arm,
        "seed": job.seed,
        "steps": job.config.steps,
        "parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "best": history[-1] if history else {},
        "head_reset": built.head_reset,
    }
    record = UnitRecord(job.key, (model, curve), facts=facts)
    cache.record(job.stage, record)
    for name in store.sizes(_folder(job)):
        store.delete(name)
    return record
