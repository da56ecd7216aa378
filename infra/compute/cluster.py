"""The Dask cluster of a run: started when the first stage needs it, closed at the end of the run."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from infra.compute.certificates import named_security, temporary_security
from infra.compute.cluster_spec import (
    PRELOAD,
    ClusterSection,
    check_gpus,
    dask_config,
    in_use,
    tls_folder,
    worker_timeout,
)
from infra.compute.worker_preload import GPUS
from infra.errors import TransientError, UsageError
from infra.lifeline import without_interrupts
from infra.settings import settings

CLOSE_SECONDS = 5.0  # for a scheduler to answer when a client leaves
LOST_SECONDS = 30.0
"""Without its worker for so long, a nanny on this machine is replaced."""


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Absences:
    """Since when workers have been absent without a break.

    Dask's own timer starts when a worker dies and looks once, after `lost-worker-timeout`: a worker that came back and
    dies again just then counts as lost, its nanny is closed, and with it the next worker, at work already.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: dict[Hashable, float] = {}

    def update(self, absent: Iterable[Hashable], now: float) -> set[Hashable]:
        """Take note of who is absent now; those that have been for `limit` seconds."""
        self._since = {name: self._since.get(name, now) for name in absent}
        return {name for name, since in self._since.items() if now - since >= self._limit}


class Cluster:
    """A lazy handle: a run whose stages are all cached never starts a worker.

    Args:
        section: as the spec has it; `STILLROOM_DASK` stands in where that names no cluster.
        lost_seconds: that a nanny on this machine may be without its worker.
    """

    def __init__(self, section: ClusterSection, lost_seconds: float = LOST_SECONDS) -> None:
        self.section = in_use(section)
        self._absences = Absences(lost_seconds)
        self._lock = threading.Lock()
        self._client: Any = None
        self._cluster: Any = None
        self._full_size = 0  # workers of a cluster of our own when none is lost

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
    def worker_timeout(self) -> float:
        """Seconds that work may wait for a worker that fits."""
        return worker_timeout(self.section)

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return max(1, sum(worker["nthreads"] for worker in self.workers()))

    @property
    def here(self) -> bool:
        """Whether its workers are those of this machine, whose rates `plan` asks for."""
        if self.section.kind == "address":
            return urlsplit(str(self.section.address)).hostname in ("127.0.0.1", "::1", "localhost")
        return self.section.kind == "local"

    @property
    def page(self) -> str | None:
        """Address of pages that show the work; None where there are none, or none are known yet."""
        if self.section.kind != "address":
            return None  # the schedulers that runs start have no pages
        if self.section.address == settings().dask:
            return settings().dask_page
        return None if self._client is None else str(self._client.dashboard_link)

    def workers(self) -> list[dict[str, Any]]:
        """What the scheduler says about each worker."""
        return list(self.client.scheduler_info(n_workers=-1)["workers"].values())

    def offers(self, resource: str) -> bool:
        """Whether some worker declares the resource, such as `GPU`."""
        return any(worker["resources"].get(resource, 0) > 0 for worker in self.workers())

    def replace_lost_workers(self, present: Iterable[Hashable]) -> None:
        """Start new workers in place of those that will not come back.

        A nanny gives up when its worker dies while it starts, a SLURM job ends with its time, a machine reboots.

        Args:
            present: names of the workers that there are now.
        """
        # Kubernetes replaces pods by itself.
        if self._cluster is None or self.section.kind == "kubernetes":
            return
        present = set(present)
        if self.section.kind == "local":
            lost = self._absences.update(set(self._cluster.workers) - present, time.monotonic())
            if lost:
                self._cluster.sync(_close_nannies, self._cluster, lost)
        if len(present) < self._full_size:
            self._cluster.scale(self._full_size)

    def _connect(self) -> Any:
        import dask
        from distributed import Client

        dask.config.set(dask_config(self.section))
        if self.section.kind == "address":
            return self._connect_to_address()
        if self._cluster is not None:
            self._cluster.close()
        with without_interrupts():  # workers are closed by us, not by the terminal
            self._cluster, self._full_size = self._start()
        client = Client(self._cluster)
        try:
            client.wait_for_workers(1, timeout=self.worker_timeout)
        except TimeoutError:
            client.close(timeout=CLOSE_SECONDS)
            raise TransientError(
                f"no Dask worker of kind {self.section.kind} came within {self.worker_timeout:g} s; look at the "
                "output of its jobs or pods, or wait longer (run.cluster.wait)"
            ) from None
        return client

    def _connect_to_address(self) -> Any:
        from distributed import Client

        address = str(self.section.address)
        if not address.startswith("tls://"):
            raise UsageError(
                f"run.cluster.address is {address}, which any user of the network may command; start the scheduler and "
                "its workers with --protocol tls --tls-ca-file --tls-cert --tls-key, write tls://HOST:PORT, and name "
                "the folder of the files in run.cluster.tls"
            )
        try:
            client = Client(
                address, timeout=f"{self.worker_timeout}s", security=named_security(tls_folder(self.section))
            )
            client.wait_for_workers(1, timeout=self.worker_timeout)
        except (OSError, TimeoutError) as error:
            raise TransientError(
                f"no Dask scheduler with workers at {address} that knows the certificates in "
                f"{tls_folder(self.section)}: {error}"
            ) from error
        return client

    def _start(self) -> tuple[Any, int]:
        """A cluster object of Dask, and the number of its workers when none is lost."""
        if self.section.kind == "ssh":
            from infra.compute.remote import ssh

            return ssh(self.section)
        if self.section.kind == "slurm":
            from infra.compute.remote import slurm

            if shutil.which("sbatch") is None:
                raise UsageError("run.cluster.kind is slurm, but there is no sbatch here; start the run where there is")
            cluster, workers = slurm(self.section)
            cluster.scale(workers)
            return cluster, workers
        if self.section.kind == "kubernetes":
            from infra.compute.remote import kubernetes

            return kubernetes(self.section)
        return _local(self.section)

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


async def _close_nannies(cluster: Any, names: Iterable[Hashable]) -> None:
    for name in names:
        await cluster.workers.pop(name).close(timeout=CLOSE_SECONDS)


def _local(section: ClusterSection) -> tuple[Any, int]:
    from distributed import LocalCluster

    gpus = _gpus() if section.gpus is None else section.gpus
    workers = section.workers or gpus or cores()
    check_gpus(workers, gpus)
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=section.threads or (max(1, cores() // workers) if gpus else 1),
        processes=True,
        memory_limit=section.memory_limit,
        # On loopback every user of the machine could submit code to a scheduler without TLS.
        host="127.0.0.1",
        security=temporary_security() if section.tls is None else named_security(tls_folder(section)),
        # Its HTTP server cannot be left out; it has no pages (`dask_config`).
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        resources={"GPU": 1} if gpus else None,
        preload=PRELOAD,
        env={GPUS: str(gpus)},
        silence_logs=30,
    )
    return cluster, workers


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
