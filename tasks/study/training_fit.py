"""Over-fitting: what each student says of images that it was trained on, on the cluster; a unit a student.

A unit is found again by the student's weights and the images that are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.numpy import load, save

from infra.compute.cluster import cores
from infra.compute.fan_out import Job
from infra.digest import digest_of, unit_key
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, UnitRecord
from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import render, to_input
from models.statistics.metrics import probabilities
from tasks.data.corpus import Corpus
from tasks.data.trained_network import cached_corpus, cached_network, stored_image
from tasks.pipeline.context import Context
from tasks.pipeline.units import outcomes

STAGE, VERSION = "training-fit", 1

IMAGES = 512
"""Labelled training images that a student is asked about, spread evenly over all."""

Rows = tuple[tuple[int, int], ...]
"""(number of the shard, row)."""


@dataclass(frozen=True)
class Asked:
    """Labelled training images of one training set.

    Attributes:
        label: [N] int, -1 for multilabel.
        labels: [N, C] int8 for multilabel, else None.
        id: digest of the images: of each its shard and row.
    """

    corpus: Manifest
    rows: Rows
    label: np.ndarray
    labels: np.ndarray | None
    id: str


@dataclass(frozen=True)
class FitJob:
    """One student on some images; names and numbers, never a module."""

    key: str
    store: str
    corpus: str
    rows: Rows
    stage: str
    model: str
    sha256: str
    batch: int
    threads: int
    device: str


def asked_of(corpus: Corpus, images: int = IMAGES) -> Asked:
    """The labelled training images that students of a training set are asked about, at most `images`."""
    shards = corpus.shards
    every = [
        (number, row)
        for number, shard in enumerate(shards)
        if shard.split == "train"
        for row in np.flatnonzero(shard.labelled).tolist()
    ]
    places = np.linspace(0, len(every) - 1, min(images, len(every))).astype(int)
    rows = tuple(every[place] for place in places.tolist())
    many = corpus.task == "multilabel"
    return Asked(
        corpus.manifest,
        rows,
        np.array([shards[number].label[row] for number, row in rows], np.int64),
        np.array([shards[n].labels[row] for n, row in rows], np.int8) if many else None,
        digest_of([[shards[number].id, row] for number, row in rows]),
    )


def training_predictions(context: Context, asked: Sequence[tuple[Manifest, Asked]]) -> dict[str, np.ndarray]:
    """Probabilities [N, C] of each student on its images, by the key of its training.

    Args:
        asked: manifests of stage distill, each with its images.

    Raises:
        CorruptError: an image or a model's file is not what the store promises.
        CancelledError: the run was asked to stop.
    """
    device, resources = context.place()
    jobs = {
        model.key: FitJob(
            _key(model, own),
            context.store.url,
            own.corpus.name,
            own.rows,
            model.stage,
            model.key,
            model.output(kind="model").sha256,
            context.run.predict_batch,
            max(1, cores() // context.cluster.slots),
            device,
        )
        for model, own in asked
        if own.rows
    }
    found = context.cache.recorded(STAGE, [job.key for job in jobs.values()])
    missing = {job.key: job for job in jobs.values() if job.key not in found}
    names = {job.key: f"training images of student {job.model[:12]}" for job in missing.values()}
    waiting = [Job(key, (job,)) for key, job in missing.items()]
    for outcome in outcomes(context, fit_logits, waiting, describe=lambda job: names[job.key], resources=resources):
        if outcome.error is not None:
            raise outcome.error
        found[outcome.job.key] = UnitRecord.from_bytes(outcome.value.to_bytes())
    tasks = {model.key: str(own.corpus.facts["task"]) for model, own in asked}
    logits = {key: load(context.store.get(found[job.key].outputs[0].name))["logits"] for key, job in jobs.items()}
    return {key: probabilities(tasks[key], each.astype(np.float64)) for key, each in logits.items()}


def fit_logits(job: FitJob) -> UnitRecord:
    """On a worker: logits float32 [N, C] of the plain views; idempotent."""
    torch.set_num_threads(job.threads)
    corpus = cached_corpus(job.store, job.corpus)
    network = cached_network(job.store, job.stage, job.model, job.sha256, job.device)
    recipe = ViewRecipe(size=network.view_size)
    logits = []
    for start in range(0, len(job.rows), job.batch):
        views = np.stack([_view(corpus, number, row, recipe) for number, row in job.rows[start : start + job.batch]])
        x = torch.from_numpy(to_input(views, network.input_size, network.mean, network.std)).to(job.device)
        with torch.inference_mode():
            logits.append(network.module(x).float().cpu().numpy())
    cache = StageCache(corpus.store)
    output = cache.put_object(
        f"predictions/{corpus.title}/training-{job.key[:16]}-{{sha8}}.safetensors",
        save({"logits": np.ascontiguousarray(np.concatenate(logits), dtype=np.float32)}),
        id=job.key,
        samples=len(job.rows),
        unit=job.key,
        meta={"kind": "logits"},
    )
    record = UnitRecord(job.key, (output,))
    cache.record(STAGE, record)
    return record


def _view(corpus: Corpus, number: int, row: int, recipe: ViewRecipe) -> np.ndarray:
    shard = corpus.shards[number]
    return render(stored_image(corpus, shard, row), recipe, draw(recipe, 0, str(shard.keys[row])))


def _key(model: Manifest, asked: Asked) -> str:
    used = ("model", "options", "view_size", "input_size", "mean", "std")
    section = {name: model.facts[name] for name in used}
    return unit_key(STAGE, VERSION, inputs=[asked.id], section=section, weights=[model.output(kind="model").id])
