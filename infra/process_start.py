"""What a process of ours sets before it imports anything large."""

from __future__ import annotations

import gc
import os

YOUNG = 10_000
"""Objects made before Python looks for reference cycles among the youngest."""


def begin_process() -> None:
    """Look for reference cycles less often, and let idle threads of OpenBLAS sleep; call before numpy is imported."""
    # Most objects of our processes are modules, classes and models of pydantic, which live as long as the process. To
    # look through them after each 700 takes a tenth of a short run's time, and a sixth of that of its imports.
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    # Threads that wait by spinning take the processor from the thread that they wait for: logistic regressions of a few
    # hundred columns take a third more of it. 2 to the power of 4 cycles is the least that OpenBLAS knows.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
