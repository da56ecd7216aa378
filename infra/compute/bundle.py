"""Several short calls in one Dask task.

A Dask task costs 3 to 4 ms of the driver, which carries the scheduler, whatever it does. Calls that take less than
that travel together; each still ends by itself.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SECONDS = 0.05
"""What a bundle should take at least: ten times what Dask does for it, and nothing to wait for."""

SECONDS_PER_SLOT = 0.016
"""What it should take for each slot of the cluster: all slots together then ask a quarter of the driver's time."""

MOST = 64
"""Calls in a bundle at most: what can be lost at once with a worker."""

SETTLED = 0.5
"""Seconds after which a nanny knows its worker; ten times what it lets pass between two looks."""

_FIRST = time.monotonic()  # a worker reads this module with its first bundle


@dataclass(frozen=True)
class Ended:
    """How one call of a bundle ended."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class Bundle:
    """Runs on a worker: `function(*args)` for each of `calls`, one after the other.

    Calls that were not begun within `seconds` are left out, so that none waits long behind one that is not short.

    Attributes:
        deadly: a worker has died with one of the calls. A nanny learns of its new worker a little later than the
            scheduler does, and gives up when the worker is dead by then; such calls wait until it knows.
    """

    function: Callable[..., Any]
    calls: tuple[tuple[Any, ...], ...]
    seconds: float
    deadly: bool = False

    def __call__(self) -> tuple[list[Ended], float]:
        """What came of the calls that were begun, and seconds a call.

        A single call raises what it raises; of several, each keeps its error to itself.
        """
        if self.deadly:
            time.sleep(max(0.0, _FIRST + SETTLED - time.monotonic()))
        start = time.perf_counter()
        if len(self.calls) == 1:
            ended = [Ended(self.function(*self.calls[0]))]
        else:
            ended = []
            for args in self.calls:
                ended.append(self._one(args))
                if time.perf_counter() - start > self.seconds:
                    break
        return ended, (time.perf_counter() - start) / len(ended)

    def _one(self, args: tuple[Any, ...]) -> Ended:
        try:
            return Ended(self.function(*args))
        except Exception as error:
            return Ended(error=portable(error))


class Pace:
    """How many calls make a bundle, from what calls took so far."""

    def __init__(self) -> None:
        self._call: float | None = None

    @staticmethod
    def seconds(slots: int) -> float:
        """What a bundle should take in a cluster that runs so many tasks at once."""
        return max(SECONDS, SECONDS_PER_SLOT * slots)

    def calls(self, slots: int) -> int:
        """Calls that take about that long together; one at first."""
        return 1 if self._call is None else max(1, min(MOST, int(self.seconds(slots) / max(self._call, 1e-9))))

    def took(self, seconds: float) -> None:
        """Learn from a bundle: long calls count at once, short ones must prove themselves."""
        before = SECONDS if self._call is None else self._call
        self._call = max(seconds, 0.7 * before + 0.3 * seconds)


def portable(error: Exception) -> Exception:
    """The exception, if it survives being pickled; else a RuntimeError with its name and text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
