"""One of several processes that train as one, and how a worker starts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from infra.compute.torchrun import Seat, run_ranks
from infra.compute.worker_preload import GPUS
from infra.storage.stage_cache import UnitRecord
from tasks.distill.job import TrainJob
from tasks.distill.reporting import Message

PATIENCE = timedelta(hours=12)
"""How long ranks wait for one of them, which may be validating."""


def train_on_ranks(
    job: TrainJob,
    *,
    tell: Callable[[Message], None],
    stop: Callable[[], None],
    leave: Callable[[], bool],
    scratch: str | None = None,
) -> UnitRecord:
    """Run a training in `job.ranks` processes on this host; raises what `tasks.distill.work.train` does.

    Args:
        scratch: folder for what they share while they run.
    """
    record: UnitRecord = run_ranks(
        "tasks.distill.rank",
        job,
        ranks=job.ranks,
        restarts=job.restarts,
        env=_devices(job),
        scratch=scratch,
        tell=tell,
        stop=stop,
        leave=leave,
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
    seat = Seat.take()
    seat.sit(lambda: _train(seat))


def _train(seat: Seat) -> UnitRecord | None:
    import torch
    import torch.distributed as dist

    from infra.errors import TransientError
    from models.training import LeavingError
    from tasks.distill.running import Link, run_training

    job: TrainJob = seat.task
    if job.device == "cuda":
        job = replace(job, device=f"cuda:{seat.rank}")
        torch.cuda.set_device(seat.rank)
    seat.join("nccl" if job.device.startswith("cuda") else "gloo", PATIENCE)
    try:
        record = run_training(job, Link(seat.say, leave=seat.leave), (seat.rank, seat.ranks))
    except TransientError as error:
        if isinstance(error.__cause__, LeavingError):
            dist.barrier()  # the worker ends all of them at the first verdict; the checkpoint must be written by then
        raise
    dist.destroy_process_group()
    return record


if __name__ == "__main__":
    main()
