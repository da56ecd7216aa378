"""Where heavy work runs: on a worker that offers the device, never on the flow's host by accident."""

from __future__ import annotations

from infra.compute.cluster import Cluster
from infra.errors import UsageError
from tasks.spec import Spec


def place(spec: Spec, cluster: Cluster) -> tuple[str, dict[str, float] | None]:
    """Device and Dask resources of GPU work, by `run.device`.

    Raises:
        UsageError: `run.device: cuda` and no worker offers the resource GPU.
    """
    if spec.run.device == "cpu":
        return "cpu", None
    if cluster.offers("GPU"):
        return "cuda", {"GPU": 1}
    if spec.run.device == "cuda":
        raise UsageError(
            "run.device is cuda, but no Dask worker offers the resource GPU; start workers with "
            "--resources GPU=1, or set run.device: auto"
        )
    return "cpu", None
