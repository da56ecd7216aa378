"""Dask futures that are under way: launched in bundles, landed case by case, with a word on how each ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar
from uuid import uuid4

from infra.compute.bundle import Bundle, Ended, Pace
from infra.compute.cluster import Cluster
from infra.errors import StillroomError, TransientError, UsageError

Case = TypeVar("Case")


class Fate(Enum):
    """How a case ended."""

    DONE = "the function returned"
    FAILED = "the function raised, or the task was lost"
    KILLED = "its worker died"
    LEFT_OUT = "others of its bundle took long; it was not begun"
    UNCLEAR = "the bundle failed as a whole; one of it is to blame"


@dataclass(frozen=True)
class Landed(Generic[Case]):
    """One case that came back."""

    case: Case
    fate: Fate
    value: Any = None
    error: BaseException | None = None
    alone: bool = False


@dataclass(frozen=True)
class _Trip(Generic[Case]):
    future: Any
    cases: Sequence[Case]
    alone: bool


class Flight(Generic[Case]):
    """Futures by key, and a queue of those that have ended.

    Args:
        args_of: a case's arguments of `function`.

    Attributes:
        slots: tasks that the cluster runs at once; it changes as workers come and go.
    """

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[..., Any],
        args_of: Callable[[Case], tuple[Any, ...]],
        resources: dict[str, float] | None,
    ) -> None:
        # The client is held, not looked up again: the handle would start a new cluster in place of one that died.
        self.cluster, self.client = cluster, cluster.client
        self.function, self.args_of, self.resources = function, args_of, resources
        self.slots = cluster.slots
        self.pace = Pace()
        self._trips: dict[str, _Trip[Case]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Dask groups tasks for its pages by what precedes the first part of a key that is not a word.
        self._name, self._count = getattr(function, "__name__", "call"), 0
        self._id = uuid4().hex
        self._looked = time.monotonic()
        self._lacking_since: float | None = None

    @property
    def bundle(self) -> int:
        """How many cases the next task should carry."""
        return self.pace.calls(self.slots)

    def __len__(self) -> int:
        return len(self._trips)

    def launch(self, cases: Sequence[Case], *, deadly: bool = False, alone: bool = False) -> None:
        """Send cases off in one Dask task.

        Args:
            deadly: a worker has died with one of them.
            alone: nothing else is under way; told again when they land.
        """
        self._count += 1
        key = f"{self._name}-{self._count}-{self._id}"
        args = tuple(self.args_of(case) for case in cases)
        bundle = Bundle(self.function, args, self.pace.seconds(self.slots), deadly)
        future = self.client.submit(bundle, key=key, pure=False, resources=self.resources)
        self._trips[key] = _Trip(future, cases, alone)
        future.add_done_callback(lambda done: self._ended.put(done.key))

    def land(self, timeout: float) -> list[Landed[Case]]:
        """The cases of the next future that ended; none when nothing ended in time.

        Raises:
            TransientError: the scheduler is gone, or there was no worker for `cluster.patience` seconds.
            UsageError: no worker had the resources for that long.
        """
        try:
            key = self._ended.get(timeout=timeout)
        except queue.Empty:
            key = None
        # Futures of a scheduler that is gone are lost one by one or not at all; none of them will land.
        if self.client.status != "running":
            raise TransientError("the Dask scheduler is gone; what was made stays in the store, run again")
        if key is None or time.monotonic() - self._looked >= timeout:
            self._look_for_workers()
        if key is None:
            return []
        trip = self._trips.pop(key)
        try:
            return self._landed(trip)
        finally:
            trip.future.release()

    def _landed(self, trip: _Trip[Case]) -> list[Landed[Case]]:
        answer = self._answer_of(trip.future)
        if not isinstance(answer, BaseException):
            ended, seconds = answer
            self.pace.took(seconds)
            done = [
                Landed(case, Fate.DONE if end.error is None else Fate.FAILED, end.value, end.error)
                for case, end in zip(trip.cases, ended, strict=False)
            ]
            return done + [Landed(case, Fate.LEFT_OUT) for case in trip.cases[len(ended) :]]
        if lack := self._lack_of(answer):
            raise lack from answer
        fate = Fate.KILLED if _killed(answer) else Fate.FAILED if len(trip.cases) == 1 else Fate.UNCLEAR
        return [Landed(case, fate, error=answer, alone=trip.alone) for case in trip.cases]

    def _answer_of(self, future: Any) -> tuple[list[Ended], float] | BaseException:
        """What a bundle returned, or the error in its place."""
        if future.status not in ("finished", "error"):
            return ConnectionError(f"task {future.status}")
        try:
            # A worker that dies with the result before it is fetched makes Dask run the task again, or blame it.
            answer: tuple[list[Ended], float] = future.result(timeout=self.cluster.patience)
            return answer
        except CancelledError:
            return ConnectionError(f"the result was lost; the task is {future.status}")
        except Exception as error:
            return error

    def cancel(self) -> None:
        """Give up all that is under way; tasks that run go on to their end unless they ask for a stop flag."""
        if self.client.status == "running":
            for trip in self._trips.values():
                trip.future.cancel()
        self._trips.clear()

    def _lack_of(self, error: BaseException) -> StillroomError | None:
        from distributed.scheduler import NoValidWorkerError, NoWorkerError

        if isinstance(error, NoValidWorkerError) and self.resources:
            return _no_resource(self.resources, self.cluster.patience)
        return _no_worker(self.cluster.patience) if isinstance(error, NoWorkerError | NoValidWorkerError) else None

    def _look_for_workers(self) -> None:
        """Count them, have lost ones replaced, and lose patience when none fits.

        Dask has a `no-workers-timeout` of its own; a scheduler that others started waits for ever.
        """
        self._looked = time.monotonic()
        try:
            workers = list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        except OSError:
            return  # the client notices by itself when its scheduler is gone
        self.slots = max(1, sum(worker["nthreads"] for worker in workers))
        self.cluster.mend(len(workers))
        wanted = (self.resources or {}).items()
        if any(all(worker["resources"].get(name, 0) >= amount for name, amount in wanted) for worker in workers):
            self._lacking_since = None
        elif self._lacking_since is None:
            self._lacking_since = self._looked
        elif self._looked - self._lacking_since >= self.cluster.patience:
            seconds = self.cluster.patience
            raise _no_resource(self.resources, seconds) if self.resources and workers else _no_worker(seconds)


def _killed(error: BaseException) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)


def _no_resource(resources: dict[str, float], seconds: float) -> UsageError:
    wanted = ",".join(f"{name}={amount:g}" for name, amount in resources.items())
    return UsageError(
        f"no Dask worker offered the resource {wanted} for {seconds:g} s; start workers with --resources {wanted} "
        "(run.cluster.gpus), or do the work without (run.device: cpu); what was made stays in the store"
    )


def _no_worker(seconds: float) -> TransientError:
    return TransientError(
        f"the Dask scheduler had no worker for {seconds:g} s; look at why workers end or do not start, or wait "
        "longer (run.cluster.wait, STILLROOM_WORKER_TIMEOUT); what was made stays in the store, run again"
    )
