"""A worker of a Prefect work pool on this machine that ends its runs before it ends itself.

Prefect's own worker, asked to end, ends the processes of its runs at once and leaves the runs in the state Running for
ever. This one asks them to end first: they save what they have and say how they ended. Of those that were killed it
says so itself, at its end and at the next start.

    python -m infra.lifeline infra.servers.pool_worker POOL
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Any

import psutil

from infra.servers.flow_runs import WORKER_PID
from infra.servers.prefect_api import prepare_environment

STOP_SECONDS = 26.0
"""For the runs of a worker to end after SIGTERM, before they are killed."""

LOOK_SECONDS = 0.5


async def work(pool: str, **options: Any) -> None:
    """Run what is scheduled in a work pool until SIGTERM or SIGINT; then all that was started is gone.

    Args:
        options: further ones of Prefect's process worker.
    """
    from prefect.workers.process import ProcessWorker

    from infra.servers.flow_runs import mark_dead_runs_crashed

    os.environ[WORKER_PID] = str(os.getpid())
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await asyncio.to_thread(mark_dead_runs_crashed)
    worker = ProcessWorker(work_pool_name=pool, **options)
    working = asyncio.create_task(worker.start())
    asked = asyncio.create_task(over.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        await _end_runs()
    finally:
        asked.cancel()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await asyncio.to_thread(mark_dead_runs_crashed)


async def _end_runs() -> None:
    """Ask the processes of runs to end, those too that a last look at the pool starts meanwhile."""
    end = time.monotonic() + STOP_SECONDS
    asked: set[psutil.Process] = set()
    while (running := _engines()) and time.monotonic() < end:
        for process in running - asked:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        asked |= running
        await asyncio.sleep(LOOK_SECONDS)
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _engines() -> set[psutil.Process]:
    """Children that live; the event loop waits for them, nobody else may."""
    return {child for child in psutil.Process().children() if _lives(child)}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Entry point."""
    parser = _options()
    given = parser.parse_args()
    if bool(given.pool) == bool(given.named):
        parser.error("name one work pool")
    prepare_environment()
    asyncio.run(work(given.pool or given.named, name=given.name, limit=given.limit, work_queues=given.work_queue))


def _options() -> argparse.ArgumentParser:
    """Of those of `prefect worker start` the ones that have a meaning here: the Helm chart's arguments are taken."""
    parser = argparse.ArgumentParser("infra.servers.pool_worker", allow_abbrev=False)
    parser.add_argument("named", metavar="POOL", nargs="?", help="work pool, made when missing")
    parser.add_argument("--pool", help="the same, as an option")
    parser.add_argument("--work-queue", action="append", help="queue of the pool (default: all)")
    parser.add_argument("--name", help="of the worker, in Prefect's pages (default: drawn)")
    parser.add_argument("--limit", type=int, help="most runs at once (default: any number)")
    parser.add_argument("--type", choices=["process"], default="process", help="the only kind that this one is")
    parser.add_argument("--install-policy", choices=["never"], default="never", help="nothing is ever installed")
    return parser


if __name__ == "__main__":
    main()
