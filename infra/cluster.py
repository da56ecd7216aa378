"""The Dask cluster of a run: started when the first stage needs it, gone with the run."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any

from infra.cluster_spec import ClusterSection
from infra.errors import TransientError, UsageError
from infra.settings import settings
from infra.worker_preload import GPUS

CLOSE_SECONDS = 5.0  # what a scheduler has to say good-bye

_WORKER_ENVIRONMENT = {
    # Threads that wait by spinning starve the threads that load images on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Dask's own 64 KiB gives every tensor's memory back at once; a training step then takes twice as long
    # (146 against 60 ms for micro at 128 px, batch 32), all of the difference in page faults.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Cluster:
    """A lazy handle: a run whose stages are all cached never starts a worker."""

    def __init__(self, section: ClusterSection) -> None:
        self.section = section
        self._lock = threading.Lock()
        self._client: Any = None
        self._cluster: Any = None

    @property
    def client(self) -> Any:
        """A `distributed.Client`; the same one for every stage of the run, as long as its scheduler lives."""
        with self._lock:
            if self._client is not None and self._client.status != "running":
                self._client.close(timeout=CLOSE_SECONDS)
                self._client = None
            if self._client is None:
                self._client = self._connect()
            return self._client

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return max(1, sum(worker["nthreads"] for worker in workers))

    def offers(self, resource: str) -> bool:
        """Whether some worker declares the resource, such as `GPU`."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return any(worker["resources"].get(resource, 0) > 0 for worker in workers)

    def _connect(self) -> Any:
        import dask
        from distributed import Client, LocalCluster

        dask.config.set(
            {
                "distributed.scheduler.no-workers-timeout": f"{settings().worker_timeout}s",
                "distributed.admin.tick.limit": "60s",
                # Looking at every stack 100 times a second costs 3 % of a worker's core; 10 times serve as well.
                "distributed.worker.profile.interval": "100ms",
                **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in _WORKER_ENVIRONMENT.items()},
                "distributed.comm.timeouts.connect": "120s",
            }
        )
        section = self.section
        if section.kind == "address":
            try:
                client = Client(section.address, timeout=f"{settings().worker_timeout}s")
                client.wait_for_workers(1, timeout=settings().worker_timeout)
            except (OSError, TimeoutError) as error:
                raise TransientError(f"no Dask scheduler with workers at {section.address}: {error}") from error
            return client
        gpus = _gpus() if section.gpus is None else section.gpus
        workers = section.workers or gpus or cores()
        if gpus and workers > gpus:
            raise UsageError(
                f"run.cluster.workers is {workers}, but there are {gpus} GPUs and each worker owns one; "
                "lower it, or set run.cluster.gpus: 0 to leave the GPUs alone"
            )
        self._cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=section.threads or (max(1, cores() // workers) if gpus else 1),
            processes=True,
            memory_limit=section.memory_limit,
            dashboard_address="127.0.0.1:0",
            resources={"GPU": 1} if gpus else None,
            preload="infra.worker_preload",
            env={GPUS: str(gpus)},
            silence_logs=30,
        )
        return Client(self._cluster)

    def close(self) -> None:
        """Stop what this handle started; an existing scheduler goes on."""
        with self._lock:
            if self._client is not None:
                self._client.close(timeout=CLOSE_SECONDS)
            if self._cluster is not None:
                self._cluster.close()
            self._client = self._cluster = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
