"""A training from its job to its record, in one process or in one of several: assemble, resume, train, store."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from infra.errors import PermanentError, TransientError
from infra.storage.manifest import Manifest, manifest_name
from infra.storage.stage_cache import UnitRecord
from infra.storage.store import Store, open_store
from models.training import DivergedError, LeavingError
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold
from tasks.distill.assemble import Assembled, assemble
from tasks.distill.checkpoints import Checkpoints, History
from tasks.distill.job import TrainJob
from tasks.distill.keeping import history_row, keep
from tasks.distill.reporting import Message, Reporter
from tasks.distill.validation import validator


@dataclass(frozen=True)
class Link:
    """How a training and the world around it hear of each other.

    Attributes:
        tell: takes what it says.
        stop: called before each step; raises to stop.
        leave: asked after each step; True: put away what there is, and leave.
    """

    tell: Callable[[Message], None] = lambda message: None
    stop: Callable[[], None] = lambda: None
    leave: Callable[[], bool] = lambda: False


def run_training(job: TrainJob, link: Link, part: tuple[int, int] = (0, 1)) -> UnitRecord | None:
    """Run a training to its end; idempotent, goes on from the newest checkpoint that is whole.

    Args:
        part: (rank, ranks) of this process. The first one alone writes and speaks.

    Returns:
        The unit's record: model, history and facts of the model; None in all but the first process.

    Raises:
        PermanentError: the loss diverged; the text names the batch's keys.
        TransientError: `link.leave` said so; the last step is in a checkpoint.
        UsageError: networks, losses or data do not fit.
    """
    first = part[0] == 0
    torch.set_num_threads(max(1, job.threads // part[1]))
    store = open_store(job.store)
    corpus = _corpus(job, store)
    ready = assemble(job, store, corpus, part)
    run = _Run(job, store, corpus, ready, link if first else replace(link, tell=lambda message: None), writes=first)
    run.resume()
    try:
        run.fit()
    except DivergedError as error:
        raise PermanentError(f"{job.arm} seed {job.seed}: {error}") from error
    except LeavingError as error:
        raise TransientError(f"{job.arm} seed {job.seed}: its worker closes; {error}") from error
    return run.finish() if first else None


class _Run:
    """One process of a training, from its checkpoint on."""

    def __init__(
        self, job: TrainJob, store: Store, corpus: Corpus, ready: Assembled, link: Link, *, writes: bool
    ) -> None:
        self.job, self.store, self.corpus, self.ready, self.link = job, store, corpus, ready, link
        self.history: History = []
        self.reporter = Reporter(link.tell, steps=job.config.steps, batch=job.batch)
        self.checkpoints = Checkpoints(
            store,
            job.key,
            every=job.config.checkpoint_every,
            epoch=math.ceil(ready.data.samples / job.batch),
            writes=writes,
        )

    def resume(self) -> None:
        """Go back to the newest checkpoint, if there is one."""
        found = self.checkpoints.load(self.reporter.say)
        if found is not None:
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
        trainer.fit(
            data.batches(trainer.step, job.config.steps, threads=job.loaders),
            on_log=self._log,
            on_step=self.reporter.step,
            on_checkpoint=self._save,
            validate=validator(self.corpus, self.ready.built, self.ready.options, job),
            metric=job.metric,
            stop=self._between,
            leave=self.link.leave,
        )
        self.reporter.send()

    def finish(self) -> UnitRecord:
        """Store what came of it."""
        record = keep(self.store, self.corpus, self.job, self.ready, self.history)
        self.checkpoints.clear()
        return record

    def _between(self) -> None:
        """Before each step."""
        self.link.stop()
        step = self.ready.trainer.step
        if self.checkpoints.due(step):
            self._save(step, self.ready.trainer.state())

    def _save(self, step: int, state: bytes) -> None:
        self.checkpoints.save(step, state, self.history)

    def _log(self, step: int, means: dict[str, float], pace: dict[str, float]) -> None:
        row = history_row(step, means, step * self.job.batch / self.ready.data.samples)
        self.history.append(row)
        self.reporter.log(row, pace)


def _corpus(job: TrainJob, store: Store) -> Corpus:
    name = manifest_name("ingest", job.ingest)
    corpus = Corpus(store, Manifest.from_bytes(store.get(name), name))
    return corpus if job.fold is None else WithoutFold(corpus, *job.fold)
