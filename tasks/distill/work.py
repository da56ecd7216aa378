"""The worker's side of a training: here, or in processes of its own where it has several devices."""

from __future__ import annotations

from collections.abc import Callable

from infra.compute.stopping import leave_check, stop_check
from infra.storage.stage_cache import UnitRecord
from tasks.distill.job import TrainJob
from tasks.distill.reporting import Message


def train(job: TrainJob) -> UnitRecord:
    """Run a training to its end on this worker; idempotent, goes on from the newest checkpoint.

    Returns:
        The unit's record: model, history and the facts of the model.

    Raises:
        PermanentError: the loss diverged; the text names the batch's keys.
        TransientError: this worker closes, or ranks died too often; the last step is in a checkpoint.
        CancelledError: the flow asked to stop.
        UsageError: networks, losses or data do not fit.
    """
    tell, stop, leave = _teller(job.topic), stop_check(job.topic), leave_check()
    if job.ranks > 1:
        from tasks.distill.rank import train_on_ranks

        return train_on_ranks(job, tell=tell, stop=stop, leave=leave, scratch=_scratch(job.topic))
    from tasks.distill.running import Link, run_training

    record = run_training(job, Link(tell, stop, leave))
    assert record is not None
    return record


def _scratch(topic: str) -> str | None:
    """The worker's own folder, which Dask removes when the worker is dead."""
    if not topic:
        return None
    from distributed import get_worker

    return str(get_worker().local_directory)


def _teller(topic: str) -> Callable[[Message], None]:
    """Tells the flow; a training outside of a Dask worker has nobody to tell."""
    if not topic:
        return lambda message: None
    from distributed import get_worker

    worker = get_worker()
    return lambda message: worker.log_event(topic, message)
