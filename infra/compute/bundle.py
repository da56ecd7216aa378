"""Several short calls in one Dask task.

A Dask task costs the driver, which runs the scheduler, 3 to 4 ms, however little it does. Calls that take less than
that share a task; each has its own result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.errors import picklable

SECONDS = 0.05
"""Least duration of a bundle: ten times what Dask itself needs for it, and still nothing to wait for."""

SECONDS_PER_SLOT = 0.016
"""Duration of a bundle per slot of the cluster: all slots together then use a quarter of the driver's time."""

MAX_CALLS = 64
"""Most calls in a bundle: so many can be lost at once with a worker."""

NANNY_SECONDS = 0.5
"""Seconds after which a nanny knows its new worker: ten times its polling interval."""

_STARTED = time.monotonic()  # a worker reads this module with its first bundle


@dataclass(frozen=True)
class CallResult:
    """The value of one call of a bundle, or its error."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class Bundle:
    """Runs on a worker: `function(*args)` for each of `calls`, one after the other.

    Calls that were not begun within `seconds` are left out, so that none waits long behind one that is not short.

    Attributes:
        suspect: a worker has died with one of the calls. A nanny learns of its new worker a little later than the
            scheduler does, and gives up when the worker is dead by then; such calls wait until it knows.
    """

    function: Callable[..., Any]
    calls: tuple[tuple[Any, ...], ...]
    seconds: float
    suspect: bool = False

    def __call__(self) -> tuple[list[CallResult], float]:
        """Results of the calls that were begun, and mean seconds of a call.

        A single call raises its error; of several calls, each error is in its result.
        """
        if self.suspect:
            time.sleep(max(0.0, _STARTED + NANNY_SECONDS - time.monotonic()))
        start = time.perf_counter()
        if len(self.calls) == 1:
            results = [CallResult(self.function(*self.calls[0]))]
        else:
            results = []
            for args in self.calls:
                results.append(self._one(args))
                if time.perf_counter() - start > self.seconds:
                    break
        return results, (time.perf_counter() - start) / len(results)

    def _one(self, args: tuple[Any, ...]) -> CallResult:
        try:
            return CallResult(self.function(*args))
        except Exception as error:
            return CallResult(error=picklable(error))


class BundleSize:
    """The number of calls in the next bundle, from the duration of calls so far."""

    def __init__(self) -> None:
        self._call: float | None = None

    @staticmethod
    def seconds(slots: int) -> float:
        """Duration of a bundle in a cluster that runs `slots` tasks at once."""
        return max(SECONDS, SECONDS_PER_SLOT * slots)

    def calls(self, slots: int) -> int:
        """Number of calls that take about that long together; one at first."""
        return 1 if self._call is None else max(1, min(MAX_CALLS, int(self.seconds(slots) / max(self._call, 1e-9))))

    def update(self, seconds: float) -> None:
        """Take in the mean duration of a bundle's calls: longer calls count at once, shorter ones by and by."""
        before = SECONDS if self._call is None else self._call
        self._call = max(seconds, 0.7 * before + 0.3 * seconds)
