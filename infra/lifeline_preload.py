"""Dask preload: each worker process dies with the process that started it."""

from __future__ import annotations

import multiprocessing
from typing import Any

from infra.lifeline import tie_to_parent


async def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker process."""
    parent = multiprocessing.parent_process()
    tie_to_parent(parent.pid if parent is not None else None)
