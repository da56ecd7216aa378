"""Dask preload: each worker process dies with the process that started it, and sees its own GPU alone."""

from __future__ import annotations

import logging
import multiprocessing
import os
from typing import Any

from infra.lifeline import tie_to_parent
from infra.process_start import begin_process

GPUS = "STILLROOM_WORKER_GPUS"
"""Environment variable with the number of GPUs that the workers of a machine share, one each."""


def is_told(record: logging.LogRecord) -> bool:
    """Whether a line of Dask's worker is shown; not of a heartbeat that met the end of its scheduler.

    A run that was stopped ends its scheduler while workers speak to it; one that lost it says so itself.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, OSError) and "heartbeat" in record.getMessage())


async def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker process, before any task and so before CUDA starts."""
    begin_process()  # before the tasks' own imports
    # A worker that is closed while it works, because its run was stopped, would warn that its task was cancelled.
    logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)
    logging.getLogger("distributed.worker").addFilter(is_told)
    parent = multiprocessing.parent_process()
    tie_to_parent(parent.pid if parent is not None else None)
    gpus = int(os.environ.get(GPUS, "0"))
    if gpus and str(worker.name).isdigit():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(int(worker.name) % gpus))
