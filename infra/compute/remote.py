"""Dask clusters on other machines: behind SSH, in SLURM jobs, in Kubernetes.

`ssh`, `slurm` and `kubernetes` each return a cluster object of Dask and the number of its workers when none is lost.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any
from uuid import uuid4

from infra.compute.certificates import named_security
from infra.compute.cluster_spec import (
    DEATH_SECONDS,
    MOUNTED_TLS,
    PRELOAD,
    ClusterSection,
    check_gpus,
    exported,
    not_installed,
    tls_folder,
)
from infra.compute.worker_preload import GPUS
from infra.errors import TransientError

LOOPBACK = "127.0.0.1:0"
"""Where the HTTP servers listen that Dask starts in each process."""

IDLE_SECONDS = 3600  # how long a scheduler on another machine outlives a run that was killed


def ssh(section: ClusterSection) -> tuple[Any, int]:
    """Scheduler and workers on machines of one's own, like `distributed.SSHCluster`.

    Built from its parts, because there all workers share one set of options: here each has a number, by which the
    preload gives it a GPU and by which a lost one is started anew.

    Raises:
        UsageError: asyncssh is not installed, more workers than GPUs, or certificates that are missing here.
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
    security = named_security(tls_folder(section))
    # -P: a folder `infra` or `tasks` in the home folder over there would hide ours.
    common = {"connect_options": part.connect_options, "remote_python": f"{part.python or sys.executable} -P"}
    options = {
        "nthreads": section.threads,
        "memory_limit": section.memory_limit,
        "preload": PRELOAD,
        "env": {GPUS: str(gpus)},
        "death_timeout": DEATH_SECONDS,
        "dashboard_address": LOOPBACK,
        **({"resources": {"GPU": 1}} if gpus else {}),
    }
    workers = {
        number: {"cls": Worker, "options": {"address": host, "kwargs": {**options, "name": number}, **common}}
        for number, host in enumerate(host for host in part.hosts for _ in range(each))
    }
    # Their certificates are named by the configuration that goes with them (`dask_config`).
    scheduler = {
        "port": part.scheduler_port,
        "dashboard": False,
        "dashboard_address": LOOPBACK,
        "idle_timeout": f"{IDLE_SECONDS}s",
    }
    try:
        cluster = SpecCluster(
            workers,
            {"cls": Scheduler, "options": {"address": part.hosts[0], "kwargs": scheduler, **common}},
            name="stillroom-ssh",
            security=security,
        )
    except (OSError, RuntimeError, asyncssh.Error) as error:
        raise TransientError(
            f"Dask does not start over SSH on {', '.join(part.hosts)}: {error}; check that `ssh HOST` lets you in "
            "without a password, that run.cluster.ssh.python has Stillroom installed, and that the files of "
            f"{tls_folder(section)} lie there too"
        ) from error
    return cluster, len(workers)


def slurm(section: ClusterSection) -> tuple[Any, int]:
    """Workers as SLURM jobs, none submitted yet; the scheduler runs in this process.

    Raises:
        UsageError: dask-jobqueue is not installed, or certificates are missing.
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
        worker_extra_args=[
            *("--preload", PRELOAD, "--dashboard-address", LOOPBACK),
            *(("--resources", "GPU=1") if gpu else ()),
            *part.worker_extra_args,
        ],
        protocol="tls://",
        security=named_security(tls_folder(section)),
        scheduler_options={"dashboard": False, "dashboard_address": LOOPBACK},
        silence_logs=30,
    )
    return cluster, (section.workers or 1) * part.processes


def kubernetes(section: ClusterSection) -> tuple[Any, int]:
    """Create the resource and connect to its scheduler.

    Returns:
        The cluster object of dask-kubernetes, and the number of its workers when none is lost.

    Raises:
        UsageError: dask-kubernetes is not installed, or certificates are missing.
        TransientError: Kubernetes does not answer, or its operator does not act.
    """
    try:
        from infra.compute.tls_kubernetes import tls_kube_cluster
    except ImportError:
        raise not_installed("kubernetes", "dask-kubernetes") from None
    part = section.kubernetes
    assert part is not None
    security = named_security(tls_folder(section))
    try:
        cluster = tls_kube_cluster(security, dask_cluster_resource(section), part.namespace)
    except Exception as error:  # kr8s, httpx and asyncio each have their own errors for the same trouble
        raise TransientError(
            f"no Dask cluster in Kubernetes: {type(error).__name__}: {error}; check `kubectl get pods`, the Dask "
            f"operator, run.cluster.kubernetes.image and the secret {part.tls_secret}"
        ) from error
    return cluster, section.workers or 1


def dask_cluster_resource(section: ClusterSection) -> dict[str, Any]:
    """The `DaskCluster` resource of a section, under a name of its own."""
    from dask_kubernetes.operator import make_cluster_spec

    part = section.kubernetes
    assert part is not None
    name = f"stillroom-{uuid4().hex[:10]}"
    routes = ["distributed.http.health", "infra.compute.idle_route"]
    environment = exported(section) | {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": str(routes)} | part.env
    made: dict[str, Any] = make_cluster_spec(
        name=name,
        image=part.image,
        n_workers=section.workers or 1,
        resources=dict(part.resources),
        env=environment,
        idle_timeout=part.idle_timeout,
    )
    worker, scheduler = made["spec"]["worker"]["spec"], made["spec"]["scheduler"]["spec"]
    # `command` as well as `args`, so that an image with an entry point of its own serves too.
    scheduler["containers"][0] |= {
        "command": ["python", "-m", "distributed.cli.dask_scheduler"],
        "args": ["--host", "0.0.0.0", "--protocol", "tls", "--no-dashboard"],
        "resources": dict(part.scheduler_resources),
    }
    worker["containers"][0] |= {
        "command": ["python", "-m", "distributed.cli.dask_worker"],
        "args": _worker_args(section, f"tls://{name}-scheduler:8786"),
        **part.container,
    }
    worker |= part.pod
    for pod in (worker, scheduler):
        _mount_secret(pod, part.tls_secret)
    return made


def _mount_secret(pod: dict[str, Any], secret: str) -> None:
    """Add the certificates to what a pod mounts already."""
    volume = {"name": "stillroom-dask-tls", "secret": {"secretName": secret}}
    pod["volumes"] = [*pod.get("volumes", ()), volume]
    container = pod["containers"][0]
    mount = {"name": "stillroom-dask-tls", "mountPath": MOUNTED_TLS, "readOnly": True}
    container["volumeMounts"] = [*container.get("volumeMounts", ()), mount]


def _worker_args(section: ClusterSection, scheduler: str) -> list[str]:
    return [
        # Named, because the operator sets DASK_SCHEDULER_ADDRESS to tcp://.
        scheduler,
        "--name",
        "$(DASK_WORKER_NAME)",
        "--nthreads",
        str(section.threads or 1),
        "--memory-limit",
        section.memory_limit,
        "--death-timeout",
        str(DEATH_SECONDS),
        "--no-dashboard",
        "--preload",
        PRELOAD,
        *(("--resources", "GPU=1") if section.gpus else ()),
    ]
