"""Teach a teacher or distil a student: key, cache, one job on the worker that has the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.compute.cluster import Cluster
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold
from tasks.distill.request import (
    DISTILL,
    TEACH,
    VERSION,
    Request,
    on_stored,
    steps_of,
    student_section,
    terms_of,
)
from tasks.distill.sending import Beside, send
from tasks.distill.watch import Say, Step
from tasks.pipeline.result import StageResult
from tasks.spec import Spec, TeacherSection
from tasks.spec.arms import TAUGHT
from tasks.teachers.teacher import TeacherHandle, teacher_model
from tasks.teachers.weights import find_weights


def teach(
    corpus: Corpus,
    teacher: TeacherSection,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    progress: Step | None = None,
    stop: Callable[[], bool] | None = None,
    say: Say | None = None,
    track: bool = False,
    side_by_side: int = 1,
    fold: tuple[int, int] | None = None,
) -> StageResult:
    """Train a teacher on the labels alone (DESIGN: a teacher is a student of nobody).

    Args:
        say, track: as `distill`.
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
        seed=teacher.seed,
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
    return _run(request, corpus, spec, store, cluster, Beside(progress, stop, say, track, side_by_side))


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
    teachers: Sequence[TeacherHandle] = (),
    progress: Step | None = None,
    stop: Callable[[], bool] | None = None,
    say: Say | None = None,
    track: bool = False,
    side_by_side: int = 1,
) -> StageResult:
    """Train one student.

    Args:
        labels: manifests of the teachers' soft labels; the arm labels_only ignores them, and so does a student whose
            teachers see each batch.
        arm: taught (labels and soft labels, unlabelled pool included), or labels_only (the same student,
            the same number of steps, labelled images alone).
        seed: of the initial weights and of the order.
        teachers: those that see each batch, where `student.teacher` is online.
        progress: gets (step, steps).
        stop: asked while it trains; CancelledError when it says yes.
        say: gets a line for people now and then.
        track: write curves to MLflow while it trains, from this process.
        side_by_side: trainings that share this host's cores.
    """
    online = tuple(teachers) if arm == TAUGHT and spec.student.teacher == "online" else ()
    request = student_request(corpus, labels, select, spec, store, arm=arm, seed=seed, teachers=online)
    beside = Beside(progress, stop, say, track, side_by_side, online)
    return _run(request, corpus, spec, store, cluster, beside)


def student_request(
    corpus: Corpus,
    labels: list[Manifest],
    select: Manifest | None,
    spec: Spec,
    store: Store,
    *,
    arm: str,
    seed: int,
    teachers: Sequence[TeacherHandle] = (),
) -> Request:
    """What `distill` asks for; writes nothing."""
    student = spec.student
    taught = arm == TAUGHT
    stored = taught and student.teacher == "stored"
    if taught and not stored and not teachers:
        raise UsageError("student.teacher is online, and no teacher is at hand")
    terms = terms_of(corpus, student.loss, student.train, taught=taught)
    return Request(
        stage=DISTILL,
        arm=arm,
        seed=seed,
        model=student,
        train=student.train,
        # Both arms take as many steps: a longer training is not mistaken for a better teacher.
        steps=steps_of(student.train, sum(len(shard) for shard in corpus.of_split("train"))),
        terms=on_stored(terms, spec.teachers) if stored else terms,
        section=student_section(student, taught=taught),
        labels=labels if stored else [],
        select=select if taught else None,
        online=[teacher_model(teacher, corpus, spec, store) for teacher in teachers],
    )


def _run(request: Request, corpus: Corpus, spec: Spec, store: Store, cluster: Cluster, beside: Beside) -> StageResult:
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
        record = send(request, key, weights, corpus, spec, store, cluster, beside)
    manifest = Manifest(
        stage=request.stage,
        version=VERSION,
        key=key,
        inputs=[
            corpus.manifest.digest,
            *(manifest.key for manifest in request.labels),
            *(teacher.id for teacher in request.online),
        ],
        section={**request.section, "arm": request.arm, "seed": request.seed},
        outputs=list(record.outputs),
        facts={**record.facts, **(corpus.facts() if isinstance(corpus, WithoutFold) else {})},
    )
    return StageResult(cache.commit(manifest), made=made, total=len(record.outputs))
