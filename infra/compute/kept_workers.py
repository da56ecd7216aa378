"""Dask's workers of a machine for a scheduler that goes on: one process that keeps a number of them alive.

A worker that dies is started again by its nanny, and a nanny that gives up by this process. Where the scheduler is,
and how to speak to it, Dask's own environment says (`infra.compute.cluster_spec.as_environment`).

    python -m infra.lifeline infra.compute.kept_workers ADDRESS WORKERS THREADS GPUS MEMORY FOLDER
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from typing import Any

from infra.compute.cluster import CLOSE_SECONDS
from infra.compute.cluster_spec import PRELOAD
from infra.compute.worker_preload import GPUS
from infra.errors import UsageError

LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """What is kept alive.

    Attributes:
        address: of the scheduler.
        threads: tasks that a worker runs at once.
        gpus: of this machine, one a worker; 0: none.
        memory: that a worker may use, as `run.cluster.memory_limit`.
        folder: for what workers spill.
    """

    address: str
    workers: int
    threads: int
    gpus: int
    memory: str
    folder: str

    @classmethod
    def of(cls, arguments: list[str]) -> Kept:
        """From a command line."""
        try:
            address, workers, threads, gpus, memory, folder = arguments
            return cls(address, int(workers), int(threads), int(gpus), memory, folder)
        except ValueError:
            raise UsageError("give ADDRESS WORKERS THREADS GPUS MEMORY FOLDER") from None


async def keep(kept: Kept) -> None:
    """Keep workers until SIGTERM or SIGINT; then all are gone."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    nannies: dict[int, Any] = {}
    asked: asyncio.Future[Any] = asyncio.create_task(over.wait())
    while not over.is_set():
        missing = [name for name in range(kept.workers) if _gone(nannies.get(name))]
        starting: asyncio.Future[Any] = asyncio.gather(
            *(_nanny(kept, name) for name in missing), return_exceptions=True
        )
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            break
        for name, found in zip(missing, starting.result(), strict=True):
            if isinstance(found, BaseException):
                _log.warning("worker %d does not start: %s", name, found)
            else:
                nannies[name] = found
        await asyncio.wait({asked}, timeout=LOOK_SECONDS)
    closing = (nanny.close(timeout=CLOSE_SECONDS, reason="asked to end") for nanny in nannies.values())
    await asyncio.gather(*closing, return_exceptions=True)


async def _nanny(kept: Kept, name: int) -> Any:
    from distributed import Nanny

    return await Nanny(
        kept.address,
        name=name,
        nthreads=kept.threads,
        memory_limit=kept.memory,
        resources={"GPU": 1} if kept.gpus else None,
        preload=PRELOAD,
        env={GPUS: str(kept.gpus)},
        local_directory=kept.folder,
        host="127.0.0.1",
        # Its HTTP server cannot be left out; it has no pages.
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    )


def _gone(nanny: Any) -> bool:
    from distributed import Status

    return nanny is None or nanny.status in (Status.closing, Status.closed, Status.failed)


if __name__ == "__main__":
    asyncio.run(keep(Kept.of(sys.argv[1:])))
