"""A Dask cluster as a `DaskCluster` resource of the Dask operator for Kubernetes."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from infra.compute.cluster_spec import ClusterSection
from infra.compute.dask_settings import DEATH_SECONDS, PRELOAD, exported, not_installed
from infra.errors import TransientError


def kubernetes(section: ClusterSection) -> tuple[Any, int]:
    """Create the resource and connect to its scheduler.

    Returns:
        The cluster object of dask-kubernetes, and how many workers it has when it is complete.

    Raises:
        UsageError: dask-kubernetes is not installed.
        TransientError: Kubernetes does not answer, or its operator does not act.
    """
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError:
        raise not_installed("kubernetes", "dask-kubernetes") from None
    part = section.kubernetes
    assert part is not None
    try:
        cluster = KubeCluster(custom_cluster_spec=manifest(section), namespace=part.namespace, quiet=True)
    except Exception as error:  # kr8s, httpx and asyncio each have their own errors for the same trouble
        raise TransientError(
            f"no Dask cluster in Kubernetes: {type(error).__name__}: {error}; check `kubectl get pods`, the Dask "
            "operator and run.cluster.kubernetes.image"
        ) from error
    return cluster, section.workers or 1


def manifest(section: ClusterSection) -> dict[str, Any]:
    """The `DaskCluster` resource of a section, under a name of its own."""
    from dask_kubernetes.operator import make_cluster_spec

    part = section.kubernetes
    assert part is not None
    environment = exported(section) | part.env
    made: dict[str, Any] = make_cluster_spec(
        name=f"stillroom-{uuid4().hex[:10]}",
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
        "args": ["--host", "0.0.0.0"],
        "resources": dict(part.scheduler_resources),
    }
    worker["containers"][0] |= {
        "command": ["python", "-m", "distributed.cli.dask_worker"],
        "args": _worker_args(section),
        **part.container,
    }
    worker |= part.pod
    return made


def _worker_args(section: ClusterSection) -> list[str]:
    return [
        "--name",
        "$(DASK_WORKER_NAME)",
        "--nthreads",
        str(section.threads or 1),
        "--memory-limit",
        section.memory_limit,
        "--death-timeout",
        str(DEATH_SECONDS),
        "--dashboard-address",
        "8788",
        "--preload",
        PRELOAD,
        *(("--resources", "GPU=1") if section.gpus else ()),
    ]
