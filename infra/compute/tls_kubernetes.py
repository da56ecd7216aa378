"""A `KubeCluster` that speaks TLS with its scheduler; dask-kubernetes itself knows tcp:// alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from dask_kubernetes.operator import KubeCluster, networking
from dask_kubernetes.operator.kubecluster import kubecluster
from distributed.core import rpc


class _TlsKubeCluster(KubeCluster):
    """Clients take the certificates from `security`."""

    security: Any = None

    async def _get_scheduler_address(self) -> str:
        address: str = await super()._get_scheduler_address()
        return address.replace("tcp://", "tls://", 1)


def tls_kube_cluster(security: Any, resource: dict[str, Any], namespace: str | None) -> Any:
    """Create a DaskCluster resource and connect to its scheduler.

    Args:
        security: a `distributed.Security` with the files of the secret that the resource mounts.
        resource: the DaskCluster.
        namespace: default that of the current context.
    """
    kind = type("TlsKubeCluster", (_TlsKubeCluster,), {"security": security})
    with _rpc_with(security.get_connection_args("client")):
        return kind(custom_cluster_spec=resource, namespace=namespace, quiet=True)


@contextmanager
def _rpc_with(connection_args: dict[str, Any]) -> Iterator[None]:
    """Connections that dask-kubernetes opens within the block use these arguments; it has no parameter for them."""
    before = [(module, module.rpc) for module in (kubecluster, networking)]
    for module, _ in before:
        module.rpc = partial(rpc, connection_args=connection_args)
    try:
        yield
    finally:
        for module, original in before:
            module.rpc = original
