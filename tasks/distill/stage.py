"""Teach a teacher or distil a student: key, cache, one job on the worker that has the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from infra.cache import StageCache, UnitRecord
from infra.cluster import Cluster, cores
from infra.errors import StillroomError, TransientError, UsageError
from infra.fanout import Job, fan_out
from infra.manifest import Manifest
from infra.stopping import StopFlag
from infra.store import Store
from models.terms import Term
from tasks.corpus import Corpus
from tasks.distill.request import (
    DISTILL,
    TEACH,
    VERSION,
    Request,
    precision_on,
    steps_of,
    student_section,
    terms_of,
)
from tasks.label.folds import WithoutFold
from tasks.placement import place
from tasks.result import StageResult
from tasks.spec import Spec, TeacherSection
from tasks.weights import WeightsRef, find_weights

TAUGHT, LABELS_ONLY = "taught", "labels_only"

Step = Callable[[int, int], None]


def teach(
    corpus: Corpus,
    teacher: TeacherSection,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    progress: Step | None = None,
    stop: Callable[[], bool] | None = None,
    side_by_side: int = 1,
    fold: tuple[int, int] | None = None,
) -> StageResult:
    """Train a teacher on the labels alone (DESIGN: a teacher is a student of nobody).

    Args:
        fold: (number, of how many): hold out the labels of that fold; None: train on all of them.
    """
    if teacher.train is None:
        raise UsageError(f"teacher {teacher.name} has no `train:`; nothing to train")
    arm, section = f"teacher:{teacher.name}", teacher.identity()
    if fold is not None:
        corpus = WithoutFold(corpus, *fold)
        arm, section = f"{arm}:fold-{fold[0]}-of-{fold[1]}", {**section, "fold": corpus.section()}
    rows = sum(int(s.labelled.sum()) for s in corpus.of_split("train"))
    request = Request(
        stage=TEACH,
        arm=arm,
        seed=0,
        model=teacher,
        train=teacher.train,
        steps=steps_of(teacher.train, rows),
        terms=terms_of(corpus, None, teacher.train, taught=False),
        section=section,
        labels=[],
        select=None,
        fold=fold,
        input=(teacher.mean, teacher.std) if teacher.mean and teacher.std else None,
    )
    return _run(request, corpus, spec, store, cluster, progress, stop, side_by_side)


def distill(
    corpus: Corpus,
    labels: list[Manifest],
    select: Manifest | None,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    arm: str = TAUGHT,
    seed: int = 0,
    progress: Step | None = None,
    stop: Callable[[], bool] | None = None,
    side_by_side: int = 1,
) -> StageResult:
    """Train one student.

    Args:
        labels: manifests of the teachers' soft labels; the arm labels_only ignores them.
        arm: taught (labels and soft labels, unlabelled pool included), or labels_only (the same student,
            the same number of steps, labelled images alone).
        seed: of the initial weights and of the order.
        side_by_side: trainings that share this host's cores.
    """
    student = spec.student
    taught = arm == TAUGHT
    shards = corpus.of_split("train")
    # Both arms take as many steps: a longer training is not mistaken for a better teacher.
    steps = steps_of(student.train, sum(len(s) for s in shards))
    request = Request(
        stage=DISTILL,
        arm=arm,
        seed=seed,
        model=student,
        train=student.train,
        steps=steps,
        terms=terms_of(corpus, student.loss, student.train, taught=taught),
        section=student_section(student, taught=taught),
        labels=labels if taught else [],
        select=select if taught else None,
    )
    return _run(request, corpus, spec, store, cluster, progress, stop, side_by_side)


def _run(
    request: Request,
    corpus: Corpus,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    progress: Step | None,
    stop: Callable[[], bool] | None,
    side_by_side: int,
) -> StageResult:
    cache = StageCache(store)
    views = spec.views.resolved(corpus.modality).identity()
    weights = find_weights(request.model.weights, request.model.model, store)
    key = request.key(corpus, views, weights.id)
    hit = cache.lookup(request.stage, key, verify=spec.run.verify)
    if hit is not None and hit.whole:
        return StageResult(hit.manifest, made=0, total=len(hit.manifest.outputs))
    record = cache.recorded(request.stage, [key]).get(key)
    made = 0 if record else 2
    if record is None:
        record = _train(request, key, weights, corpus, spec, store, cluster, progress, stop, side_by_side)
    manifest = Manifest(
        stage=request.stage,
        version=VERSION,
        key=key,
        inputs=[corpus.manifest.digest, *(m.key for m in request.labels)],
        section={**request.section, "arm": request.arm, "seed": request.seed},
        outputs=list(record.outputs),
        facts={**record.facts, **(corpus.facts() if isinstance(corpus, WithoutFold) else {})},
    )
    return StageResult(cache.commit(manifest), made=made, total=len(record.outputs))


def _train(
    request: Request,
    key: str,
    weights: WeightsRef,
    corpus: Corpus,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    progress: Step | None,
    stop: Callable[[], bool] | None,
    side_by_side: int,
) -> UnitRecord:
    from models.training import TrainConfig
    from tasks.distill.job import TrainJob
    from tasks.distill.work import LOG_POINTS, train

    device, resources = place(spec, cluster)
    config = {
        k: v
        for k, v in request.train.model_dump().items()
        if k not in ("steps", "epochs", "batch", "label_smoothing", "precision")
    }
    job = TrainJob(
        stage=request.stage,
        key=key,
        arm=request.arm,
        seed=request.seed,
        store=store.url,
        ingest=corpus.manifest.key,
        labels=tuple(m.key for m in request.labels),
        select=request.select.key if request.select else None,
        model=request.model.model,
        options=request.model.options,
        input_size=request.model.size or spec.views.size,
        weights=weights,
        fold=request.fold,
        input=request.input,
        views=spec.views.resolved(corpus.modality).identity(),
        terms=tuple(Term(**term) for term in request.terms),
        config=TrainConfig(
            steps=request.steps,
            precision=precision_on(request.train, device),
            log_every=max(1, math.ceil(request.steps / LOG_POINTS)),
            **config,
        ),
        batch=request.train.batch,
        device=device,
        threads=spec.run.train_threads or max(1, cores() // max(1, min(side_by_side, cluster.slots))),
    )
    with StopFlag(cluster) as flag, _told(cluster, flag.topic, request.steps, progress):
        jobs = [Job(key, (replace(job, topic=flag.topic),))]
        window = fan_out(cluster, train, jobs, attempts=spec.run.attempts, resources=resources, stop=stop, flag=flag)
        with closing(window) as outcomes:
            outcome = next(outcomes)
    if outcome.error is not None:
        if isinstance(outcome.error, StillroomError):
            raise outcome.error
        raise TransientError(f"{request.stage} {request.arm} seed {request.seed}: {outcome.error!r}") from outcome.error
    return UnitRecord.from_bytes(outcome.value.to_bytes())


@contextmanager
def _told(cluster: Cluster, topic: str, steps: int, progress: Step | None) -> Iterator[None]:
    """Pass on what the worker says of its steps."""
    if progress is None:
        yield
        return
    cluster.client.subscribe_topic(topic, lambda event: progress(int(event[1]["step"]), steps))
    try:
        yield
    finally:
        cluster.client.unsubscribe_topic(topic)
