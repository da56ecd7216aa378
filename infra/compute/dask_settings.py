"""What scheduler and workers are told in every kind of Dask cluster."""

from __future__ import annotations

from infra.compute.cluster_spec import ClusterSection
from infra.errors import UsageError
from infra.settings import settings

PRELOAD = "infra.compute.worker_preload"
DEATH_SECONDS = 60  # how long a remote worker looks for a scheduler that is gone before it ends

WORKER_ENVIRONMENT = {
    # Threads that wait by spinning starve the threads that load images on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Dask's own 64 KiB gives every tensor's memory back at once; a training step then takes twice as long
    # (146 against 60 ms for micro at 128 px, batch 32), all of the difference in page faults.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


def patience(section: ClusterSection) -> float:
    """Seconds that work may wait for a worker that fits."""
    return section.wait or settings().worker_timeout


def dask_config(section: ClusterSection) -> dict[str, str | int]:
    """Settings of Dask, by its own names."""
    return {
        "distributed.scheduler.no-workers-timeout": f"{patience(section):g}s",
        # One death is all that Dask may decide about: its own retries would kill four workers with a poison shard
        # each time, and its count mixes shards that kill with shards that were near. `infra.compute.fan_out`
        # counts, and tries suspects alone.
        "distributed.scheduler.allowed-failures": 0,
        # Dask keeps the last 1000 batches of every connection for its developers, our jobs in them.
        "distributed.admin.low-level-log-length": 10,
        # After so long without its worker a nanny is given up; `Cluster.mend` then starts another. On other machines
        # a restart reads Python from a slow disk, and to give up a SLURM job is to queue again.
        "distributed.deploy.lost-worker-timeout": "15s" if section.kind == "local" else "60s",
        "distributed.admin.tick.limit": "60s",
        # Looking at every stack 100 times a second costs 3 % of a worker's core; 10 times serve as well.
        "distributed.worker.profile.interval": "100ms",
        **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_ENVIRONMENT.items()},
        "distributed.comm.timeouts.connect": "120s",
    }


def exported(section: ClusterSection) -> dict[str, str]:
    """Environment that gives processes on other machines the same settings."""
    config = dask_config(section).items()
    names = {name: f"DASK_{name.upper().replace('.', '__').replace('-', '_')}" for name, _ in config}
    return WORKER_ENVIRONMENT | {names[name]: str(value) for name, value in config if "environ" not in name}


def check_gpus(workers: int, gpus: int) -> None:
    """UsageError when a machine has fewer GPUs than workers."""
    if gpus and workers > gpus:
        raise UsageError(
            f"run.cluster.workers is {workers}, but there are {gpus} GPUs and each worker owns one; "
            "lower it, or set run.cluster.gpus: 0 to leave the GPUs alone"
        )


def not_installed(kind: str, package: str) -> UsageError:
    """What to say where the optional package of a kind is missing."""
    return UsageError(f"run.cluster.kind: {kind} needs {package}; pip install 'stillroom[{kind}]'")
