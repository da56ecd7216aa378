"""The label stage: what the teachers still owe, the cluster that pays it, and a manifest a teacher.

Nothing here imports torch, and a hit starts no worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from infra.compute.cluster import Cluster
from infra.errors import UsageError
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.folds import fold_of
from tasks.label.job import STAGE, VERSION, How
from tasks.label.units import Owing, Unit, owing, take_up
from tasks.pipeline.placement import place
from tasks.pipeline.result import StageResult
from tasks.spec import Spec
from tasks.teachers.teacher import TeacherHandle, bring, teacher_handle, teacher_model

__all__ = ["STAGE", "VERSION", "TeacherHandle", "label", "teacher_handle"]


def label(
    corpus: Corpus,
    teachers: Sequence[TeacherHandle],
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[StageResult]:
    """Soft labels of the teachers: the plain view of every shard, the random views of training shards.

    One decode of an image and one rendering of each view serve every teacher that owes it. Each teacher has a
    manifest of its own; adding a teacher, a view or shards labels what is new.

    Args:
        progress: called with (units done, units in all).
        say: told, before the work starts, what each teacher still owes: files, bytes, and time where it is known.
        stop: asked between shards, and by running workers between batches; CancelledError when it says yes.

    Returns:
        One result a teacher, in their order.

    Raises:
        UsageError: a teacher does not fit the corpus, its weights or the machines.
        BudgetError: more samples had to be kept out than `run.label` allows.
        CorruptError: stored images are damaged; every other shard is done first.
        PermanentError: a teacher failed on some shards; every other shard is done first.
    """
    if not teachers:
        raise UsageError("label needs at least one teacher")
    cache = StageCache(store)
    views = spec.views.resolved(corpus.modality)
    owed: list[tuple[Owing, list[Unit]]] = []
    asked: set[str] = set()
    for teacher in teachers:
        model = teacher_model(teacher, corpus, spec, store)
        own = owing(corpus, model, views, _folds(corpus, len(model.folds)))
        again = spec.run.retry_quarantined
        units = take_up(own, cache, verify=spec.run.verify, retry_quarantined=again)
        # Two names of one network owe the same units: the first makes them for both.
        owed.append((own, [unit for unit in units if unit.key not in asked]))
        asked.update(unit.key for unit in units)
    _pay(teachers, owed, corpus, spec, store, cluster, progress or (lambda done, total: None), stop, say)
    results = []
    for own, _ in owed:
        if own.whole and own.hit is not None:
            results.append(StageResult(own.hit.manifest, made=0, total=own.total))
        else:
            for other, _ in owed:
                own.take_from(other)
            results.append(StageResult(cache.commit(own.manifest()), own.made, own.total, own.samples))
    return results


def _folds(corpus: Corpus, count: int) -> dict[int, np.ndarray]:
    return fold_of(corpus, count) if count else {}


def _pay(
    teachers: Sequence[TeacherHandle],
    owed: list[tuple[Owing, list[Unit]]],
    corpus: Corpus,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    progress: Callable[[int, int], None],
    stop: Callable[[], bool] | None,
    say: Callable[[str], None] | None,
) -> None:
    from tasks.label.fanning import Fanning

    total = sum(own.total for own, _ in owed)
    due = sum(len(units) for _, units in owed)
    progress(total - due, total)
    if not due:
        return
    device, resources = place(spec, cluster)
    for teacher, (_, units) in zip(teachers, owed, strict=True):
        if units:
            bring(teacher, store)
    settings = spec.run.label
    how = How(
        device=device,
        share=_share(cluster),
        cores=settings.threads,
        engine=settings.engine,
        precision=settings.precision,
        batch=settings.batch,
        min_agreement=settings.min_agreement,
        max_error=settings.max_error,
        passes=sum(len(unit.shard) for _, units in owed for unit in units) // max(1, cluster.slots),
    )
    Fanning(corpus, spec, store, cluster, how, resources, stop, say or (lambda text: None)).run(
        owed, lambda done: progress(total - due + done, total)
    )


def _share(cluster: Cluster) -> int:
    """Jobs that the busiest machine of the cluster runs at once."""
    slots: Counter[str] = Counter()
    for worker in cluster.client.scheduler_info(n_workers=-1)["workers"].values():
        slots[worker["host"]] += worker["nthreads"]
    return max(slots.values(), default=1)
