"""The job that a worker gets: names and numbers, never a module or a tensor; and how a request becomes one."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from infra.compute.cluster import Cluster, cores
from infra.errors import UsageError
from models.losses.terms import Term
from models.statistics.metrics import LOWER_IS_BETTER, assess, main_metric, names, selecting_metric
from models.training.config import TrainConfig
from tasks.data.corpus import Corpus
from tasks.data.weights import WeightsRef
from tasks.distill.request import DISTILL_NAME, Request, precision_on
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tasks.teachers.teacher import TeacherModel


@dataclass(frozen=True)
class Sampling:
    """Which samples come, and how often.

    Attributes:
        pool: all or labelled: training images that are used.
        classes: natural, or balanced: every class as often.
        ratio: unlabelled samples for a labelled one in each batch; None: as they come.
    """

    pool: str = "all"
    classes: str = "natural"
    ratio: float | None = None


@dataclass(frozen=True)
class TrainJob:
    """One training.

    Attributes:
        stage: teach or distill.
        key: key of the unit; names its checkpoints and its model.
        corpus: name of its manifest in the store.
        arm: as of `tasks.distill.request.Request`.
        labels: manifests of soft labels by key, empty for a training on labels alone or with online teachers.
        select: key of the select manifest, None for equal weights.
        weights: where the initial weights are, and their digest.
        batch: samples an optimiser step, over all ranks.
        sampling: which samples come, and how often.
        targets: view or mean: stored soft labels of the view that is shown, or their mean over views.
        online: teachers that see each batch; empty: stored soft labels are used, or no teacher at all.
        metric: validation metric of plateau, early stop and best.
        ranks: processes of the training; 1: this one.
        loaders: threads that load ahead.
        compile: torch.compile the student.
        restarts: of a training on several ranks, from its last checkpoint.
        fold: (number, of how many) whose labels are held out; None: none are.
        input: mean and std of the network's input; None: its own.
        hidden: whether no label of a training image is shown.
        compared: label manifests, by key, of the teachers that the student is compared with on some images.
        input_size: side of the network's input in pixels.
        threads: CPU threads of the training.
    """

    stage: str
    key: str
    arm: str
    seed: int
    store: str
    corpus: str
    labels: tuple[str, ...]
    select: str | None
    model: str
    options: dict[str, Any]
    input_size: int
    weights: WeightsRef
    views: dict[str, Any]
    terms: tuple[Term, ...]
    config: TrainConfig
    batch: int
    device: str
    threads: int
    sampling: Sampling = Sampling()
    targets: str = "view"
    online: tuple[TeacherModel, ...] = ()
    metric: str = ""
    ranks: int = 1
    loaders: int = 2
    compile: bool = False
    restarts: int = 3
    fold: tuple[int, int] | None = None
    input: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    hidden: bool = False
    compared: tuple[str, ...] = ()
    topic: str = ""  # of the events that carry messages, and of the stop flag

    @property
    def taught(self) -> bool:
        """Whether the training uses teachers."""
        return bool(self.labels or self.online)


LOG_POINTS = 20
"""Rows of a history, in addition to those of validations."""


DECIDED = ("steps", "precision", "keep", "log_every", "higher_is_better")
"""Fields of TrainConfig that are not copied from the spec."""


def build_job(
    request: Request,
    key: str,
    weights: WeightsRef,
    corpus: Corpus,
    spec: Spec,
    context: Context,
    *,
    device: str,
    side_by_side: int,
) -> TrainJob:
    """The job of a training.

    Args:
        device: cpu or cuda.
        side_by_side: trainings that share this host's cores.

    Raises:
        UsageError: `train.metric` is none of the task's, or no validation image has a label.
    """
    train, run = request.train, context.run.train
    metric = _metric(request, corpus)
    return TrainJob(
        stage=request.stage,
        key=key,
        arm=request.arm,
        seed=request.seed,
        store=context.store.url,
        corpus=corpus.manifest.name,
        labels=tuple(manifest.key for manifest in request.labels),
        select=request.select.key if request.select else None,
        model=request.model.model,
        options=request.model.build_options,
        input_size=request.model.size or spec.views.size,
        weights=weights,
        views=spec.views.resolved(corpus.modality).identity(),
        terms=tuple(request.terms),
        config=_config(request, metric, device),
        batch=train.batch,
        device=device,
        threads=run.threads or max(1, cores() // max(1, min(side_by_side, context.cluster.slots))),
        sampling=_sampling(request),
        targets=request.targets if request.labels else "view",
        online=request.online,
        metric=f"val_{metric}",
        ranks=_ranks(context.cluster, device, run.devices or 1),
        loaders=run.loaders,
        compile=run.compile,
        restarts=run.restarts,
        fold=request.fold,
        input=request.input,
        hidden=request.hidden,
        compared=tuple(manifest.key for manifest in request.compared),
    )


def _ranks(cluster: Cluster, device: str, wanted: int) -> int:
    """Processes of a training: as many as wanted, on GPUs at most those of one host."""
    if device != "cuda" or wanted == 1:
        return wanted
    hosts: Counter[str] = Counter()
    for worker in cluster.workers():
        hosts[worker["host"]] += int(worker["resources"].get("GPU", 0))
    return max(1, min(wanted, max(hosts.values(), default=1)))


def _sampling(request: Request) -> Sampling:
    train = request.train
    if request.stage != DISTILL_NAME:
        return Sampling(classes=train.sampling, ratio=train.unlabelled_ratio)
    # The arm on labels alone has the same section, but no pool.
    with_teachers = bool(request.labels or request.online)
    return Sampling(
        pool=request.pool if with_teachers else "all",
        classes=train.sampling,
        ratio=train.unlabelled_ratio if with_teachers else None,
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
    metric = train.metric or selecting_metric(main_metric(corpus.task))
    if metric not in known:
        raise UsageError(f"train.metric: {metric} is not measured on {corpus.task} corpora; {', '.join(known)} are")
    if train.judged and not any(np.any(shard.labelled) for shard in corpus.of_split("val")):
        raise UsageError(
            f"{request.arm}: schedule plateau, early_stop and keep: best go by the validation images, and no image of "
            f"split val of {corpus.title} has a label"
        )
    undefined = _undefined(corpus) if train.judged else {}
    if metric in undefined:
        others = ", ".join(name for name in known if name not in undefined)
        raise UsageError(
            f"{request.arm}: train.metric: {metric} is undefined on the validation images of {corpus.title}, "
            f"{undefined[metric]}; schedule plateau, early_stop and keep: best would go by nothing. Set train.metric "
            f"({others} are defined), or see corpus.split.val"
        )
    return metric


def _undefined(corpus: Corpus) -> dict[str, str]:
    """Metrics that the validation labels leave undefined even for predictions without a fault, and why."""
    shards = [shard for shard in corpus.of_split("val") if shard.labelled.any()]
    label = np.concatenate([shard.label[shard.labelled] for shard in shards])
    many = [shard.labels[shard.labelled] for shard in shards if shard.labels is not None]
    labels = np.concatenate(many) if many else None
    right = np.eye(len(corpus.classes))[label] if labels is None else np.where(labels > 0, 0.9, 0.1)
    return assess(corpus.task, right, label, labels).undefined
