"""A contender in a process of its own: what one sets of threads, cores and environment, no other feels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from infra.lifeline import tie_to_parent

_OWN: list[Any] = []


class Apart:
    """Calls methods of an object that lives in processes of its own, one object a process.

    Args:
        make: module-level class or function; called there with `args`.
        cores: those that the processes may use; default all.
        processes: how many; `each` asks all of them at once.
        environment: variables that they have beside this process's.

    The processes start at once, the first call waits for them.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        *args: Any,
        cores: Iterable[int] = (),
        processes: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # A pool each: one pool would give two jobs to the process that is done first.
        self._pools = [
            ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(), tuple(cores))
            )
            for _ in range(processes)
        ]
        self._ended: list[Future[None]] = []
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            # Not in the initializer: an error there would arrive without its words.
            self._made = [pool.submit(_make, make, args) for pool in self._pools]
        finally:
            os.environ.clear()
            os.environ.update(before)

    def wait(self) -> None:
        """Until the objects are made; raises what their making raised."""
        for future in self._made:
            future.result()

    def __call__(self, method: str, *args: Any) -> Any:
        """What the method answers in the first process."""
        self.wait()
        return self._pools[0].submit(_do, method, args).result()

    def each(self, method: str, jobs: Iterable[tuple[Any, ...]]) -> list[Any]:
        """What the method answers for one job a process, all at the same time."""
        self.wait()
        running = [pool.submit(_do, method, job) for pool, job in zip(self._pools, jobs, strict=True)]
        return [future.result() for future in running]

    def close(self) -> None:
        """Have the objects close and the processes end, without waiting; see `join`."""
        for pool in self._pools:
            # A process that died has nothing to end, and an error from here would hide why.
            with suppress(BrokenProcessPool):
                self._ended.append(pool.submit(_end))
            pool.shutdown(wait=False)

    def join(self) -> None:
        """After `close`: until the objects are closed."""
        for future in self._ended:
            future.result()

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _begin(parent: int, cores: tuple[int, ...]) -> None:
    tie_to_parent(parent)
    if cores:
        os.sched_setaffinity(0, cores)


def _make(make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _OWN.append(make(*args))


def _do(method: str, args: tuple[Any, ...]) -> Any:
    return getattr(_OWN[0], method)(*args)


def _end() -> None:
    close = getattr(_OWN.pop() if _OWN else None, "close", None)
    if close is not None:
        close()
