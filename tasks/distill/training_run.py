"""A training from its job to its record, in one process or in one of several: assemble, resume, train, store."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infra.errors import PermanentError, TransientError
from infra.storage.manifest import Manifest, manifest_name
from infra.storage.stage_cache import UnitRecord
from infra.storage.store import Store, open_store
from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import render, to_input
from models.networks.build import Built, build
from models.statistics.metrics import metrics, probabilities
from models.training.config import DivergedError, PreemptedError
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold
from tasks.data.hidden_labels import WithoutLabels
from tasks.distill.assemble import Assembled, assemble
from tasks.distill.checkpoints import FORMAT, Checkpoints, History
from tasks.distill.kept_images import decoded
from tasks.distill.teacher_comparison import TeacherComparison, comparison_text, underfits
from tasks.distill.training_job import TrainJob
from tasks.distill.training_messages import Message, TrainingMessages
from tasks.distill.training_record import history_row, store_training


@dataclass(frozen=True)
class TrainingCallbacks:
    """Calls between a training and the process that runs it.

    Attributes:
        send: takes a message of `tasks.distill.training_messages`.
        stop: called before each step; raises to stop.
        preempted: called after each step; True: write a checkpoint and end, because the worker closes.
    """

    send: Callable[[Message], None] = lambda message: None
    stop: Callable[[], None] = lambda: None
    preempted: Callable[[], bool] = lambda: False


def run_training(job: TrainJob, callbacks: TrainingCallbacks, part: tuple[int, int] = (0, 1)) -> UnitRecord | None:
    """Run a training to its end; idempotent, goes on from the newest checkpoint that is whole.

    Args:
        part: (rank, ranks) of this process. Only the first one writes to the store and sends messages.

    Returns:
        The unit's record: model, history and facts of the model; None in all but the first process.

    Raises:
        PermanentError: the loss diverged; the text names the batch's keys.
        TransientError: `callbacks.preempted` returned True; the last step is in a checkpoint.
        UsageError: networks, losses or data do not fit.
    """
    first = part[0] == 0
    torch.set_num_threads(max(1, job.threads // part[1]))
    store = open_store(job.store)
    corpus = _corpus(job, store)
    ready = assemble(job, store, corpus, part)
    run = _Run(
        job, store, corpus, ready, callbacks if first else replace(callbacks, send=lambda message: None), writes=first
    )
    run.resume()
    if first and (note := ready.data.mixing_note()):
        run.messages.line(note)
    try:
        run.fit()
    except DivergedError as error:
        raise PermanentError(f"{job.arm} seed {job.seed}: {error}") from error
    except PreemptedError as error:
        raise TransientError(f"{job.arm} seed {job.seed}: its worker closes; {error}") from error
    # These come of the data and the networks, never of another rank: a restart would meet them again.
    except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
        raise PermanentError(f"{job.arm} seed {job.seed}: {type(error).__name__}: {error}") from error
    return run.finish() if first else None


class _Run:
    """One process of a training, from its checkpoint on."""

    def __init__(
        self,
        job: TrainJob,
        store: Store,
        corpus: Corpus,
        ready: Assembled,
        callbacks: TrainingCallbacks,
        *,
        writes: bool,
    ) -> None:
        self.job, self.store, self.corpus, self.ready, self.callbacks = job, store, corpus, ready, callbacks
        self.history: History = []
        self.messages = TrainingMessages(callbacks.send, steps=job.config.steps, batch=job.batch)
        self.checkpoints = Checkpoints(
            store,
            job.key,
            every=job.config.checkpoint_every,
            epoch=math.ceil(ready.data.samples / job.batch),
            writes=writes,
        )

    def resume(self) -> None:
        """Load the newest checkpoint, if there is one."""
        found = self.checkpoints.load(self.messages.line)
        if found is not None:
            if found.format != FORMAT:
                raise PermanentError(
                    f"{self.job.arm} seed {self.job.seed}: the checkpoint of step {found.step:,} is of another release "
                    f"(format {found.format}, this one reads {FORMAT}); remove checkpoints/{self.job.key} from the "
                    "store to train from the start"
                )
            try:
                self.ready.trainer.resume(found.state)
            except (KeyError, ValueError, RuntimeError, TypeError) as error:
                raise PermanentError(
                    f"{self.job.arm} seed {self.job.seed}: the checkpoint of step {found.step:,} is of another release "
                    f"({error}); remove checkpoints/{self.job.key} from the store to train from the start"
                ) from error
            self.history = found.history

    def fit(self) -> None:
        """Train to the end."""
        job, trainer, data = self.job, self.ready.trainer, self.ready.data
        if trainer.step == 0:
            epochs = job.config.steps * job.batch / data.samples
            self.messages.line(
                f"{job.config.steps:,} steps of {job.batch} images: {epochs:.3g} epochs of {data.samples:,} images"
            )
        trainer.fit(
            data.batches(trainer.step, job.config.steps, threads=job.loaders),
            on_log=self._log,
            on_step=self.messages.step,
            on_checkpoint=self._save,
            validate=validator(self.corpus, self.ready.built, self.ready.options, job, self._comparison()),
            metric=job.metric,
            stop=self._between,
            preempted=self.callbacks.preempted,
        )
        self.messages.flush()

    def finish(self) -> UnitRecord:
        """Store the model and its history, then remove the checkpoints."""
        record = store_training(self.store, self.corpus, self.job, self.ready, self.history)
        self.checkpoints.clear()
        return record

    @property
    def _steered(self) -> bool:
        """Whether validations decide anything."""
        config = self.job.config
        return config.early_stop is not None or config.schedule == "plateau" or config.keep == "best"

    def _comparison(self) -> TeacherComparison | None:
        """What the student is compared with; None where it has no teachers."""
        job, data = self.job, self.ready.data
        if not job.compared:
            return None
        names = [manifest_name("label", key) for key in job.compared]
        return TeacherComparison(
            self.corpus,
            [Manifest.from_bytes(self.store.get(name), name) for name in names],
            ViewRecipe.from_values(job.views),
            [
                (number, row)
                for number, rows in zip(data.numbers, data.rows.chosen, strict=True)
                for row in rows.tolist()
            ],
        )

    def _between(self) -> None:
        """Before each step."""
        self.callbacks.stop()
        step = self.ready.trainer.step
        if self.checkpoints.due(step):
            self._save(step, self.ready.trainer.state())

    def _save(self, step: int, state: bytes) -> None:
        self.checkpoints.save(step, state, self.history)

    def _log(self, step: int, means: dict[str, float], pace: dict[str, float]) -> None:
        row = history_row(step, means, step * self.job.batch / self.ready.data.samples)
        self.history.append(row)
        self.messages.log(row, pace)
        if self._steered and math.isnan(means.get(self.job.metric, 0.0)):
            self.messages.line(
                f"step {step:,} of {self.job.config.steps:,}: {self.job.metric} is undefined, which counts as no "
                "better than before for early_stop, schedule plateau and keep: best"
            )
        text = comparison_text(row)
        if text:
            self.messages.line(f"step {step:,} of {self.job.config.steps:,}, {text}")
        if step == self.job.config.steps and underfits(row):
            self.messages.line(
                "it has learnt little of its teachers, even on images that it was trained on: give it more steps, "
                "a higher rate, or take a larger student"
            )


def _corpus(job: TrainJob, store: Store) -> Corpus:
    corpus = Corpus(store, Manifest.from_bytes(store.get(job.corpus), job.corpus))
    if job.hidden:
        return WithoutLabels(corpus)
    return corpus if job.fold is None else WithoutFold(corpus, *job.fold)


VALIDATION_BATCH = 64
"""Images a forward pass."""


Validate = Callable[[dict[str, Tensor]], dict[str, float]]


def validator(
    corpus: Corpus,
    built: Built,
    options: Mapping[str, Any],
    job: TrainJob,
    comparison: TeacherComparison | None = None,
) -> Validate:
    """A function from weights to metrics `val_*` of the plain view, and to columns of the comparison with teachers.

    Its result is empty where no validation image has a label and there is nothing to compare. A metric that is
    undefined is left out, except the one that the training is steered by, which is then NaN.

    Args:
        built: the student.
        options: keyword arguments that rebuild it.
        comparison: with its teachers.
    """
    shards = corpus.shards
    rows = [
        (number, row)
        for number, shard in enumerate(shards)
        if shard.split == "val"
        for row in np.flatnonzero(shard.labelled).tolist()
    ]
    label = np.array([shards[number].label[row] for number, row in rows])
    many = [shards[number].labels for number, _ in rows]
    labels = (
        np.stack([own[row] for own, (_, row) in zip(many, rows, strict=True) if own is not None])
        if (rows and many[0] is not None)
        else None
    )
    recipe = ViewRecipe.from_values(job.views)

    @cache
    def network() -> nn.Module:
        # Not the student itself: that one has hooks, wrappers and weights of another moment.
        again = build(job.model, num_classes=len(corpus.classes), options=options, size=job.input_size)
        return again.module.to(job.device)

    def predict(views: np.ndarray) -> np.ndarray:
        logits = []
        for start in range(0, len(views), VALIDATION_BATCH):
            block = views[start : start + VALIDATION_BATCH]
            x = torch.from_numpy(to_input(block, job.input_size, built.mean, built.std)).to(job.device)
            with torch.inference_mode():
                logits.append(network()(x).float().cpu().numpy())
        return np.concatenate(logits)

    def on_validation() -> np.ndarray:
        parts = []
        for start in range(0, len(rows), VALIDATION_BATCH):
            block = [(shards[number], row) for number, row in rows[start : start + VALIDATION_BATCH]]
            drawn = [
                render(decoded(corpus, shard, row), recipe, draw(recipe, 0, str(shard.keys[row])))
                for shard, row in block
            ]
            parts.append(predict(np.stack(drawn)))
        return np.concatenate(parts)

    def validate(weights: dict[str, Tensor]) -> dict[str, float]:
        if not rows and comparison is None:
            return {}
        network().load_state_dict(weights)
        beside = {} if comparison is None else comparison.on_training(predict)
        if not rows:
            return {job.metric: math.nan, **beside} if beside else {}
        logits = on_validation()
        if comparison is not None:
            beside |= comparison.on_validation(rows, logits)
        found = metrics(corpus.task, probabilities(corpus.task, logits), label, labels)
        values = {f"val_{name}": math.nan if value is None else float(value) for name, value in found.items()}
        return {name: v for name, v in values.items() if name == job.metric or not math.isnan(v)} | beside

    return validate
