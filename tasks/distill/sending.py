"""Send a training to the worker that has the device, hear of it while it runs, and take what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from infra.compute.cluster import Cluster
from infra.compute.fan_out import Job, Outcome, fan_out, is_killed
from infra.compute.stopping import StopFlag
from infra.errors import StillroomError, TransientError, is_transient
from infra.storage.stage_cache import UnitRecord
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.weights import WeightsRef
from tasks.distill.checkpoints import Checkpoints
from tasks.distill.curves import Curves
from tasks.distill.request import DISTILL, VERSION, Request
from tasks.distill.watch import Say, Step, Watch
from tasks.pipeline.placement import place
from tasks.spec import Spec
from tasks.teachers.teacher import TeacherHandle, bring


@dataclass(frozen=True)
class Beside:
    """Who hears of a training, and what runs beside it; none of it enters its key.

    Attributes:
        progress: gets (step, steps).
        stop: asked while it trains; CancelledError when it says yes.
        say: gets a line for people now and then.
        track: write curves to MLflow while it trains, from this process.
        side_by_side: trainings that share this host's cores.
        teachers: those that see each batch.
    """

    progress: Step | None
    stop: Callable[[], bool] | None
    say: Say | None
    track: bool
    side_by_side: int
    teachers: tuple[TeacherHandle, ...] = ()


def send(
    request: Request,
    key: str,
    weights: WeightsRef,
    corpus: Corpus,
    spec: Spec,
    store: Store,
    cluster: Cluster,
    beside: Beside,
) -> UnitRecord:
    """Train on a worker; the record of what was made.

    A worker that closes or dies costs the steps since the last checkpoint: another one goes on from it.

    Raises:
        StillroomError: what the training raised, or PoisonError when workers die of it and it does not move on.
        TransientError: it failed in a way that may pass.
    """
    from tasks.distill.order import order, resources_of
    from tasks.distill.work import train

    advice = request.advice(corpus, spec.views.count)
    if advice and beside.say is not None:
        beside.say(f"{request.arm} seed {request.seed}: {advice}")
    device, resources = place(spec, cluster)
    job = order(request, key, weights, corpus, spec, store, cluster, device=device, side_by_side=beside.side_by_side)
    resources = resources_of(cluster, resources, job.ranks)
    with StopFlag(cluster) as flag, _watch(request, key, spec, cluster, flag.topic, beside):
        for teacher in beside.teachers:
            bring(teacher, store)

        def once() -> Outcome:
            jobs = [Job(key, (replace(job, topic=flag.topic),))]
            attempts, stop = spec.run.attempts, beside.stop
            window = fan_out(cluster, train, jobs, attempts=attempts, resources=resources, stop=stop, flag=flag)
            with closing(window) as outcomes:
                return next(outcomes)

        outcome = as_long_as_it_moves_on(once, Checkpoints(store, key))
    if outcome.error is not None:
        if isinstance(outcome.error, StillroomError):
            raise outcome.error
        raise TransientError(f"{request.stage} {request.arm} seed {request.seed}: {outcome.error!r}") from outcome.error
    return UnitRecord.from_bytes(outcome.value.to_bytes())


def as_long_as_it_moves_on(once: Callable[[], Outcome], checkpoints: Checkpoints) -> Outcome:
    """Try a training again and again while each try leaves a newer checkpoint: walltimes end workers, not trainings."""
    while True:
        before = checkpoints.newest()
        outcome = once()
        if outcome.error is None or checkpoints.newest() <= before:
            return outcome
        if not is_killed(outcome.error) and not is_transient(outcome.error):
            return outcome


def _watch(request: Request, key: str, spec: Spec, cluster: Cluster, topic: str, beside: Beside) -> Watch:
    """What hears of a training while it runs."""
    who = f"student {request.arm}" if request.stage == DISTILL else request.arm.replace(":", " ", 1)
    title = f"{who} seed {request.seed}"
    curves = None
    if beside.track:
        tags = {
            "stillroom.stage": request.stage,
            "stillroom.arm": request.arm,
            "stillroom.seed": str(request.seed),
            "stillroom.version.distill": str(VERSION),
        }
        params = {"model": request.model.model, "steps": request.steps, **request.train.identity()}
        curves = Curves(
            spec.name,
            key,
            title,
            tags=tags,
            params={name: str(value) for name, value in params.items() if value is not None},
            say=beside.say or (lambda text: None),
        )
    return Watch(
        cluster,
        topic,
        title=title,
        steps=request.steps,
        progress=beside.progress,
        say=beside.say,
        curves=curves,
    )
