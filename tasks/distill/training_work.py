"""A training as a stage: key, lookup, one job on the worker that has the device, commit. No torch before it trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

from infra.compute.cluster import Cluster
from infra.compute.fan_out import Job, Outcome
from infra.compute.stopping import StopFlag
from infra.errors import is_killed, is_transient
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import UnitRecord, read_output
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold
from tasks.data.weights import IN_STORE, WeightsRef
from tasks.distill.checkpoints import Checkpoints
from tasks.distill.curve_table import curves_of
from tasks.distill.curves import Curves
from tasks.distill.request import DISTILL_NAME, VERSION, Request
from tasks.distill.training_messages import TrainingListener
from tasks.pipeline.context import Context
from tasks.pipeline.rates import STEP, remember_rate, step_details
from tasks.pipeline.stage import Artifact, Made, StageResult, StageWork
from tasks.pipeline.units import outcomes
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY
from tasks.teachers.champion_start import FACT, ChampionStart
from tasks.teachers.teacher import TeacherHandle, upload_weights
from tasks.teachers.weights_lookup import find_weights

if TYPE_CHECKING:
    from tasks.distill.training_job import TrainJob


class Training(StageWork):
    """One training of a teacher or of a student.

    A worker that closes or dies costs the steps since the last checkpoint: another one goes on from it.

    Args:
        request: what is trained, and how.
        corpus: of the images, without its fold where it has one.
        side_by_side: trainings that share this host's cores.
        track: write curves to MLflow while it trains, from this process.
        teachers: online teachers, whose files are copied into the store before the training starts.
        champion: whose weights it begins from, where no phase comes before; None: as the model's section says.

    Raises:
        UsageError: networks, weights, losses or data do not fit.
        PermanentError: the loss diverged, or workers die of the training and no checkpoint is newer than before.
        TransientError: the worker was lost, or ranks died too often.
        CancelledError: the run was asked to stop.
    """

    version = VERSION

    def __init__(
        self,
        context: Context,
        request: Request,
        corpus: Corpus,
        spec: Spec,
        *,
        side_by_side: int = 1,
        track: bool = False,
        teachers: Sequence[TeacherHandle] = (),
        champion: ChampionStart | None = None,
    ) -> None:
        super().__init__(context)
        self.request, self.corpus, self.spec, self.champion = request, corpus, spec, champion
        self.side_by_side, self.track, self.teachers = side_by_side, track, teachers
        self.weights = self._find_weights(upload=False)

    @cached_property
    def key(self) -> str:
        views = self.spec.views.resolved(self.corpus.modality).identity()
        return self.request.key(self.corpus, views, self.weights.id)

    def _find_weights(self, *, upload: bool) -> WeightsRef:
        """The initial weights; those of the phase before have the id of its training, so that its key is in ours."""
        request = self.request
        if request.start is None and self.champion is not None:
            if upload:
                self.champion.upload(self.store)
            return self.champion.weights
        if request.start is None:
            return find_weights(request.model.weights, request.model.model, self.store, upload=upload)
        model = request.start.output(kind="model")
        return WeightsRef(f"{IN_STORE}{model.name}", model.id, model.sha256)

    @property
    def name(self) -> str:
        """Of the training, for people."""
        request = self.request
        arm = request.arm.replace(":", " ", 1)
        return f"student {arm} seed {request.seed}" if request.stage == DISTILL_NAME else f"{arm} seed {request.seed}"

    def make(self) -> Made:
        request, corpus = self.request, self.corpus
        record = self.cache.recorded(self.stage, [self.key]).get(self.key)
        made = 0 if record else 2
        if record is None:
            record = self._train()
        manifest = Manifest(
            stage=self.stage,
            version=VERSION,
            key=self.key,
            inputs=[
                corpus.manifest.digest,
                *(manifest.key for manifest in request.labels),
                *(teacher.id for teacher in request.online),
                *([request.start.key] if request.start else []),
            ],
            section={**request.section, "arm": request.arm, "seed": request.seed},
            outputs=list(record.outputs),
            facts={
                **record.facts,
                **(corpus.facts() if isinstance(corpus, WithoutFold) else {}),
                **self._began_from(),
            },
        )
        return Made(manifest, made=made, total=len(record.outputs))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        manifest = result.manifest
        history = json.loads(read_output(self.store, manifest.output(kind="history")))
        return [curves_of(self.name, history, manifest.facts["best"])]

    def _began_from(self) -> dict[str, Any]:
        """The champion that it, or the first of its phases, began from; nothing where it was none."""
        if self.request.start is None:
            return {} if self.champion is None else {FACT: self.champion.to_json()}
        return {name: value for name, value in self.request.start.facts.items() if name == FACT}

    def _train(self) -> UnitRecord:
        """Train on a worker; the record of model and history."""
        from tasks.distill.training_job import build_job
        from tasks.distill.worker import train

        context, request = self.context, self.request
        advice = request.advice(self.corpus, self.spec.views.count)
        if advice:
            context.message(f"{request.arm} seed {request.seed}: {advice}")
        if request.start is None and self.champion is not None:
            context.message(f"{self.name} begins from the weights of {self.champion.title}")
        device, resources = context.place()
        self._find_weights(upload=True)  # copied to where workers find it
        job = build_job(
            request,
            self.key,
            self.weights,
            self.corpus,
            self.spec,
            context,
            device=device,
            side_by_side=self.side_by_side,
        )
        resources = _resources(context.cluster, resources, job.ranks)
        with StopFlag(context.cluster) as flag, self._listener(flag.topic) as listener:
            for teacher in self.teachers:
                upload_weights(teacher, self.store)

            def once() -> Outcome:
                jobs = [Job(self.key, (replace(job, topic=flag.topic),))]
                (outcome,) = outcomes(
                    context, train, jobs, describe=lambda _: self.name, resources=resources, flag=flag
                )
                return outcome

            outcome = retry_while_advancing(once, Checkpoints(self.store, self.key))
        if outcome.error is not None:
            raise outcome.error
        self._remember(job, listener.paces)
        return UnitRecord.from_bytes(outcome.value.to_bytes())

    def _remember(self, job: TrainJob, paces: Sequence[float]) -> None:
        """Leave the seconds of a step on this machine, loading included, for `plan`."""
        # The arm on labels alone has other losses; plan asks for the taught one.
        if not paces or job.ranks > 1 or self.request.arm == LABELS_ONLY or not self.context.cluster.here:
            return
        details = step_details(
            job.model,
            job.options,
            size=job.input_size,
            classes=len(self.corpus.classes),
            batch=job.batch,
            losses=[term.loss for term in job.terms],
            precision=job.config.precision,
            online=len(job.online),
            device=job.device,
            threads=job.threads,
        )
        remember_rate(STEP, details, job.batch / median(paces))

    def _listener(self, topic: str) -> TrainingListener:
        request, curves = self.request, None
        if self.track:
            tags = {
                "stillroom.stage": request.stage,
                "stillroom.arm": request.arm,
                "stillroom.seed": str(request.seed),
                "stillroom.version.distill": str(VERSION),
            }
            params = {"model": request.model.model, **request.train.identity(), "steps": request.steps}
            curves = Curves(
                self.spec.name,
                self.key,
                self.name,
                tags=tags,
                params={name: str(value) for name, value in params.items() if value is not None},
                flow_run=self.context.run_id,
                message=self.context.message,
            )
        return TrainingListener(self.context, topic, title=self.name, steps=request.steps, curves=curves)


def retry_while_advancing(once: Callable[[], Outcome], checkpoints: Checkpoints) -> Outcome:
    """Repeat a training that loses its worker for as long as each try leaves a newer checkpoint: the walltime of a
    worker may be shorter than a training."""
    while True:
        before = checkpoints.newest()
        outcome = once()
        if outcome.error is None or checkpoints.newest() <= before:
            return outcome
        if not is_killed(outcome.error) and not is_transient(outcome.error):
            return outcome


def _resources(cluster: Cluster, resources: dict[str, float] | None, ranks: int) -> dict[str, float] | None:
    """Dask resources of a training: all GPUs of its worker, where one worker owns them all."""
    if resources is None:
        return None
    whole = any(worker["resources"].get("GPU", 0) >= ranks for worker in cluster.workers())
    return {"GPU": ranks} if whole else resources
