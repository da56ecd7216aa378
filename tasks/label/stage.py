"""The label stage: which views of which shards a teacher still owes, and the manifest of all of them.

Nothing here imports torch, and a hit starts no worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from infra.cache import StageCache
from infra.cluster import Cluster
from infra.digest import unit_key
from infra.errors import PermanentError, StillroomError, is_transient
from infra.fanout import Job, Outcome, fan_out
from infra.manifest import Manifest, Output
from infra.store import Store
from models.view_draws import Recipe
from tasks.corpus import Corpus, Shard
from tasks.label.job import STAGE, VERSION, LabelJob, TeacherModel, label_key
from tasks.label.teacher import TeacherHandle, teacher_handle, teacher_model
from tasks.placement import place
from tasks.result import StageResult
from tasks.spec import Spec

__all__ = ["STAGE", "VERSION", "TeacherHandle", "label", "teacher_handle"]

JOBS_PER_SLOT = 4


@dataclass(frozen=True)
class _Unit:
    number: int
    shard: Shard
    view: int
    key: str


def label(
    corpus: Corpus,
    teacher: TeacherHandle,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> StageResult:
    """Soft labels of one teacher: the plain view of every shard, the random views of training shards.

    Args:
        progress: called with (units done, units in all).
        stop: asked between shards; CancelledError when it says yes.

    Raises:
        CorruptError: a stored image is damaged; shard and key are named.
        UsageError: the teacher does not fit the corpus, its weights or the machines.
        PermanentError: a shard killed its workers or failed in another way; what is done stays done.
    """
    model = teacher_model(teacher, corpus, spec, store)
    recipe = Recipe.from_values(spec.views.model_dump())
    section = {
        "teacher": teacher.name,
        "corpus": corpus.title,
        "model": model.identity(),
        "views": spec.views.identity(),
        "splits": [shard.split for shard in corpus.shards],
    }
    inputs = [shard.id for shard in corpus.shards]
    key = unit_key(STAGE, VERSION, inputs=inputs, section=section, weights=[model.weights.id])
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key, verify=spec.run.verify)
    units = _units(corpus, model, recipe, spec.views.count)
    if hit is not None and hit.whole:
        return StageResult(hit.manifest, made=0, total=len(units))

    done: dict[str, Output] = {}
    for record in cache.recorded(STAGE, [unit.key for unit in units], verify=spec.run.verify).values():
        done[record.key] = record.outputs[0]
    if hit is not None:
        gone = {output.name for output in hit.missing}
        done |= {o.unit: o for o in hit.manifest.outputs if o.name not in gone}
    owed = [unit for unit in units if unit.key not in done]
    count = len(units) - len(owed)
    if progress is not None:
        progress(count, len(units))
    if owed:
        for made in _make(owed, corpus, model, recipe, spec, store, cluster, stop):
            done |= {output.unit: output for output in made}
            count += len(made)
            if progress is not None:
                progress(count, len(units))

    outputs = [_described(done[unit.key], unit, teacher.name) for unit in units]
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=inputs,
        section=section,
        outputs=outputs,
        facts={
            "teacher": teacher.name,
            "classes": model.num_classes,
            "weights": model.weights.id,
            "rows": sum(output.samples for output in outputs),
            "invalid": sum(output.meta["invalid"] for output in outputs),
        },
    )
    return StageResult(cache.commit(manifest), made=len(owed), total=len(units))


def _units(corpus: Corpus, model: TeacherModel, recipe: Recipe, count: int) -> list[_Unit]:
    return [
        _Unit(number, shard, view, label_key(shard.id, model, recipe, view))
        for number, shard in enumerate(corpus.shards)
        for view in range(1 + (count if shard.split == "train" else 0))
    ]


def _make(
    owed: list[_Unit],
    corpus: Corpus,
    model: TeacherModel,
    recipe: Recipe,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    stop: Callable[[], bool] | None,
) -> Iterator[tuple[Output, ...]]:
    """Outputs of one job after the other, as they come."""
    from tasks.label.work import label_shard

    device, resources = place(spec, cluster)
    share = _share(cluster)
    by_shard: dict[int, list[_Unit]] = {}
    for unit in owed:
        by_shard.setdefault(unit.number, []).append(unit)
    # Views of one shard share its decoding; but a small corpus is cut finer, so that no worker idles at the end.
    together = max(1, len(owed) // (JOBS_PER_SLOT * cluster.slots))

    def jobs() -> Iterator[Job]:
        for units in by_shard.values():
            for start in range(0, len(units), together):
                group = units[start : start + together]
                job = LabelJob(
                    store=store.url,
                    title=corpus.title,
                    shard=group[0].shard,
                    recipe=recipe,
                    views=tuple((unit.view, unit.key) for unit in group),
                    teacher=model,
                    device=device,
                    batch=spec.run.label.batch or 32,
                    share=share,
                )
                yield Job(group[0].key, (job,))

    window = fan_out(cluster, label_shard, jobs(), attempts=spec.run.attempts, resources=resources, stop=stop)
    with closing(window) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                raise _explained(outcome, model.name)
            yield tuple(output for record in outcome.value for output in record.outputs)


def _explained(outcome: Outcome, teacher: str) -> BaseException:
    error = outcome.error
    assert error is not None
    if isinstance(error, StillroomError) or is_transient(error):
        return error
    shard: Shard = outcome.job.args[0].shard
    return PermanentError(
        f"teacher {teacher} failed on {shard.output.name} ({outcome.attempts} tries): {type(error).__name__}: {error}"
    )


def _described(output: Output, unit: _Unit, teacher: str) -> Output:
    # Number, split and name are the corpus's and the spec's of today; the unit is the same whatever they are.
    meta: dict[str, Any] = {
        "kind": "soft",
        "shard": unit.number,
        "split": unit.shard.split,
        "view": unit.view,
        "teacher": teacher,
        "invalid": output.meta["invalid"],
    }
    return output.model_copy(update={"meta": meta})


def _share(cluster: Cluster) -> int:
    """Jobs that the busiest machine of the cluster runs at once."""
    slots: Counter[str] = Counter()
    for worker in cluster.client.scheduler_info(n_workers=-1)["workers"].values():
        slots[worker["host"]] += worker["nthreads"]
    return max(slots.values(), default=1)
