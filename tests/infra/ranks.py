"""What ranks do in the tests of `infra.compute.torchrun`; torch only where asked for, so that they start at once."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any

from infra.compute.torchrun import RankProcess
from infra.errors import UsageError


def work(rank: RankProcess) -> Any:
    """As the task says: the last rank dies in its first life (once, group) or raises (usage, bug); or all wait."""
    task, last, life = rank.task, rank.rank == rank.ranks - 1, int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    rank.send({"rank": rank.rank, "life": life})
    if task == "group":
        return add(rank, dies=last and life == 0)
    if task == "once" and last and life == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    while task == "wait" or (not last and task in ("usage", "bug")):
        if rank.preempted():
            return "preempted"
        time.sleep(0.01)
    if task == "usage":
        raise UsageError("the spec is wrong")
    if task == "bug":
        raise RuntimeError("out of memory")
    return f"{task} by {rank.rank} of {rank.ranks}"


def add(rank: RankProcess, *, dies: bool) -> float:
    """The sum of ones over the ranks, which wait for the one that dies."""
    import torch
    import torch.distributed as dist

    rank.join("gloo", timedelta(minutes=5))
    one = torch.ones(1)
    dist.all_reduce(one)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
    dist.destroy_process_group()
    return one.item()


def main() -> None:
    """A rank, as torchrun starts it."""
    rank = RankProcess.from_environment()
    rank.run(lambda: work(rank))


if __name__ == "__main__":
    main()
