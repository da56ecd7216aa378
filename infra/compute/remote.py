"""Dask clusters on machines behind SSH and in SLURM jobs.

Each function returns a cluster object of Dask and how many workers it has when it is complete.
"""

from __future__ import annotations

import shlex
from typing import Any

from infra.compute.cluster_spec import ClusterSection
from infra.compute.dask_settings import DEATH_SECONDS, PRELOAD, check_gpus, exported, not_installed
from infra.compute.worker_preload import GPUS
from infra.errors import TransientError

IDLE_SECONDS = 3600  # how long a scheduler on another machine outlives a run that was killed


def ssh(section: ClusterSection) -> tuple[Any, int]:
    """Scheduler and workers on machines of one's own, like `distributed.SSHCluster`.

    Built from its parts, because there all workers share one set of options: here each has a number, by which the
    preload gives it a GPU and by which a lost one is started anew.

    Raises:
        UsageError: asyncssh is not installed, or more workers than GPUs.
        TransientError: a machine cannot be reached, or Dask does not start there.
    """
    try:
        import asyncssh
    except ImportError:
        raise not_installed("ssh", "asyncssh") from None
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.ssh import Scheduler, Worker

    part = section.ssh
    assert part is not None
    gpus = section.gpus or 0
    each = section.workers or gpus or 1
    check_gpus(each, gpus)
    common = {"connect_options": part.connect_options, "remote_python": part.python}
    options = {
        "nthreads": section.threads,
        "memory_limit": section.memory_limit,
        "preload": PRELOAD,
        "env": {GPUS: str(gpus)},
        "death_timeout": DEATH_SECONDS,
        **({"resources": {"GPU": 1}} if gpus else {}),
    }
    workers = {
        number: {"cls": Worker, "options": {"address": host, "kwargs": {**options, "name": number}, **common}}
        for number, host in enumerate(host for host in part.hosts for _ in range(each))
    }
    scheduler = {"port": part.scheduler_port, "dashboard_address": ":0", "idle_timeout": f"{IDLE_SECONDS}s"}
    try:
        cluster = SpecCluster(
            workers,
            {"cls": Scheduler, "options": {"address": part.hosts[0], "kwargs": scheduler, **common}},
            name="stillroom-ssh",
        )
    except (OSError, RuntimeError, asyncssh.Error) as error:
        raise TransientError(
            f"Dask does not start over SSH on {', '.join(part.hosts)}: {error}; check that `ssh HOST` lets you in "
            "without a password and that run.cluster.ssh.python has Stillroom installed"
        ) from error
    return cluster, len(workers)


def slurm(section: ClusterSection) -> tuple[Any, int]:
    """Workers as SLURM jobs, none submitted yet; the scheduler runs in this process.

    Raises:
        UsageError: dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise not_installed("slurm", "dask-jobqueue") from None
    part = section.slurm
    assert part is not None
    gpu = bool(section.gpus)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in exported(section).items()]
    cluster = SLURMCluster(
        queue=part.queue,
        account=part.account,
        cores=part.cores,
        memory=part.memory,
        processes=part.processes,
        walltime=part.walltime,
        interface=part.interface,
        python=part.python,
        local_directory=part.local_directory,
        log_directory=part.log_directory,
        death_timeout=DEATH_SECONDS,
        job_extra_directives=part.job_extra_directives,
        job_script_prologue=[*exports, *part.job_script_prologue],
        worker_extra_args=["--preload", PRELOAD, *(("--resources", "GPU=1") if gpu else ()), *part.worker_extra_args],
        scheduler_options={"dashboard_address": ":0"},
        silence_logs=30,
    )
    return cluster, (section.workers or 1) * part.processes
