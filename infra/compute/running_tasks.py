"""Dask tasks that are running: jobs are submitted in bundles and come back one by one, with how each ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar
from uuid import uuid4

from infra.compute.bundle import Bundle, BundleSize, CallResult
from infra.compute.cluster import Cluster
from infra.errors import StillroomError, TransientError, UsageError

JobT = TypeVar("JobT")


class Ending(Enum):
    """How a job ended."""

    DONE = "the function returned"
    FAILED = "the function raised, or the task was lost"
    KILLED = "its worker died"
    LEFT_OUT = "others of its bundle took long; it was not begun"
    UNCLEAR = "the bundle failed as a whole; one of it is to blame"


@dataclass(frozen=True)
class EndedJob(Generic[JobT]):
    """One job that came back."""

    job: JobT
    ending: Ending
    value: Any = None
    error: BaseException | None = None
    alone: bool = False


@dataclass(frozen=True)
class _Task(Generic[JobT]):
    future: Any
    jobs: Sequence[JobT]
    alone: bool


class RunningTasks(Generic[JobT]):
    """Futures by key, and a queue of those that have ended.

    Args:
        args_of: gives the arguments of `function` for a job.

    Attributes:
        slots: tasks that the cluster runs at once; it changes as workers come and go.
    """

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[..., Any],
        args_of: Callable[[JobT], tuple[Any, ...]],
        resources: dict[str, float] | None,
    ) -> None:
        # The client is held, not looked up again: the handle would start a new cluster in place of one that died.
        self.cluster, self.client = cluster, cluster.client
        self.function, self.args_of, self.resources = function, args_of, resources
        self.slots = cluster.slots
        self.bundle_size = BundleSize()
        self._tasks: dict[str, _Task[JobT]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Dask groups tasks for its pages by what precedes the first part of a key that is not a word.
        self._name, self._count = getattr(function, "__name__", "call"), 0
        self._id = uuid4().hex
        self._checked_at = time.monotonic()
        self._no_fit_since: float | None = None

    @property
    def jobs_per_task(self) -> int:
        """How many jobs the next task should carry."""
        return self.bundle_size.calls(self.slots)

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, jobs: Sequence[JobT], *, suspect: bool = False, alone: bool = False) -> None:
        """Submit jobs as one Dask task.

        Args:
            suspect: a worker has died with one of them.
            alone: nothing else is running; `EndedJob.alone` repeats it.
        """
        self._count += 1
        key = f"{self._name}-{self._count}-{self._id}"
        args = tuple(self.args_of(job) for job in jobs)
        bundle = Bundle(self.function, args, self.bundle_size.seconds(self.slots), suspect)
        future = self.client.submit(bundle, key=key, pure=False, resources=self.resources)
        self._tasks[key] = _Task(future, jobs, alone)
        future.add_done_callback(lambda done: self._ended.put(done.key))

    def collect(self, timeout: float) -> list[EndedJob[JobT]]:
        """The jobs of the next task that ended; none when nothing ended in time.

        Raises:
            TransientError: the scheduler is gone, or there was no worker for `cluster.worker_timeout` seconds.
            UsageError: no worker had the resources for that long.
        """
        try:
            key = self._ended.get(timeout=timeout)
        except queue.Empty:
            key = None
        # Futures of a scheduler that is gone are lost one by one or not at all; none of them will end.
        if self.client.status != "running":
            raise TransientError("the Dask scheduler is gone; what was made stays in the store, run again")
        if key is None or time.monotonic() - self._checked_at >= timeout:
            self._check_workers()
        if key is None:
            return []
        task = self._tasks.pop(key)
        try:
            return self._ended_jobs(task)
        finally:
            task.future.release()

    def _ended_jobs(self, task: _Task[JobT]) -> list[EndedJob[JobT]]:
        answer = self._answer_of(task.future)
        if not isinstance(answer, BaseException):
            ended, seconds = answer
            self.bundle_size.update(seconds)
            done = [
                EndedJob(job, Ending.DONE if end.error is None else Ending.FAILED, end.value, end.error)
                for job, end in zip(task.jobs, ended, strict=False)
            ]
            return done + [EndedJob(job, Ending.LEFT_OUT) for job in task.jobs[len(ended) :]]
        if missing := self._no_worker_error(answer):
            raise missing from answer
        ending = Ending.KILLED if _killed(answer) else Ending.FAILED if len(task.jobs) == 1 else Ending.UNCLEAR
        return [EndedJob(job, ending, error=answer, alone=task.alone) for job in task.jobs]

    def _answer_of(self, future: Any) -> tuple[list[CallResult], float] | BaseException:
        """What a bundle returned, or the error in its place."""
        if future.status not in ("finished", "error"):
            return ConnectionError(f"task {future.status}")
        try:
            # A worker that dies with the result before it is fetched makes Dask run the task again, or blame it.
            answer: tuple[list[CallResult], float] = future.result(timeout=self.cluster.worker_timeout)
            return answer
        except CancelledError:
            return ConnectionError(f"the result was lost; the task is {future.status}")
        except Exception as error:
            return error

    def cancel(self) -> None:
        """Cancel all tasks; those that a worker has begun go on to their end unless they check a stop flag."""
        if self.client.status == "running":
            for task in self._tasks.values():
                task.future.cancel()
        self._tasks.clear()

    def _no_worker_error(self, error: BaseException) -> StillroomError | None:
        from distributed.scheduler import NoValidWorkerError, NoWorkerError

        if isinstance(error, NoValidWorkerError) and self.resources:
            return _no_resource(self.resources, self.cluster.worker_timeout)
        return (
            _no_worker(self.cluster.worker_timeout) if isinstance(error, NoWorkerError | NoValidWorkerError) else None
        )

    def _check_workers(self) -> None:
        """Count workers, have lost ones replaced, and raise when none has fitted for too long.

        Dask has a `no-workers-timeout` of its own; a scheduler that others started waits for ever.
        """
        self._checked_at = time.monotonic()
        try:
            workers = list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        except OSError:
            return  # the client notices by itself when its scheduler is gone
        self.slots = max(1, sum(worker["nthreads"] for worker in workers))
        self.cluster.replace_lost_workers(worker["name"] for worker in workers)
        wanted = (self.resources or {}).items()
        if any(all(worker["resources"].get(name, 0) >= amount for name, amount in wanted) for worker in workers):
            self._no_fit_since = None
        elif self._no_fit_since is None:
            self._no_fit_since = self._checked_at
        elif self._checked_at - self._no_fit_since >= self.cluster.worker_timeout:
            seconds = self.cluster.worker_timeout
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
