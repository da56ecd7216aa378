"""The worker's side of a training: in the worker itself, or in one process a device, each started as this module."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from infra.compute.stopping import preemption_check, stop_check
from infra.compute.torchrun import RankProcess, run_ranks
from infra.compute.worker_preload import GPUS
from infra.storage.stage_cache import UnitRecord
from tasks.distill.training_job import TrainJob
from tasks.distill.training_messages import Message


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
    send, stop, preempted = _sender(job.topic), stop_check(job.topic), preemption_check()
    if job.ranks > 1:
        return _train_on_ranks(job, send=send, stop=stop, preempted=preempted, scratch=_scratch(job.topic))
    from tasks.distill.training_run import TrainingCallbacks, run_training

    record = run_training(job, TrainingCallbacks(send, stop, preempted))
    assert record is not None
    return record


def _scratch(topic: str) -> str | None:
    """The worker's own folder, which Dask removes when the worker is dead."""
    if not topic:
        return None
    from distributed import get_worker

    return str(get_worker().local_directory)


def _sender(topic: str) -> Callable[[Message], None]:
    """Sends messages to the flow's process; outside of a Dask worker there is none, and messages are dropped."""
    if not topic:
        return lambda message: None
    from distributed import get_worker

    worker = get_worker()
    return lambda message: worker.log_event(topic, message)


RANK_TIMEOUT = timedelta(hours=12)
"""How long ranks wait for one of them, which may be validating."""


def _train_on_ranks(
    job: TrainJob,
    *,
    send: Callable[[Message], None],
    stop: Callable[[], None],
    preempted: Callable[[], bool],
    scratch: str | None = None,
) -> UnitRecord:
    """Run a training in `job.ranks` processes on this host; raises what `tasks.distill.worker.train` does.

    Args:
        scratch: folder for what they share while they run.
    """
    record: UnitRecord = run_ranks(
        "tasks.distill.worker",
        job,
        ranks=job.ranks,
        restarts=job.restarts,
        env=_devices(job),
        scratch=scratch,
        tell=send,
        stop=stop,
        preempted=preempted,
    )
    return record


def _devices(job: TrainJob) -> dict[str, str]:
    """The environment that shows the ranks their GPUs: a worker sees its own alone."""
    own, host = os.environ.get("CUDA_VISIBLE_DEVICES", ""), int(os.environ.get(GPUS, "0"))
    if job.device != "cuda" or not own.isdigit() or host < job.ranks:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(str((int(own) + number) % host) for number in range(host))}


def main() -> None:
    """A rank, as torchrun starts it."""
    rank = RankProcess.from_environment()
    rank.run(lambda: _train_rank(rank))


def _train_rank(rank: RankProcess) -> UnitRecord | None:
    import torch
    import torch.distributed as dist

    from infra.errors import TransientError
    from models.training.config import PreemptedError
    from tasks.distill.training_run import TrainingCallbacks, run_training

    job: TrainJob = rank.task
    if job.device == "cuda":
        job = replace(job, device=f"cuda:{rank.rank}")
        torch.cuda.set_device(rank.rank)
    rank.join("nccl" if job.device.startswith("cuda") else "gloo", RANK_TIMEOUT)
    try:
        record = run_training(job, TrainingCallbacks(rank.send, preempted=rank.preempted), (rank.rank, rank.ranks))
    except TransientError as error:
        if isinstance(error.__cause__, PreemptedError):
            dist.barrier()  # the worker ends all ranks when the first one fails; the checkpoint must be written by then
        raise
    dist.destroy_process_group()
    return record


if __name__ == "__main__":
    main()
