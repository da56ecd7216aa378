"""Resources of a Dask cluster in Kubernetes that stays: `python -m infra.deploy.dask_resources CPU_IMAGE CUDA_IMAGE`.

They are made of the presets `kubernetes` and `kubernetes-gpu`, as are the clusters that a run brings up for itself, and
printed as YAML for `kubectl apply`. Runs name the scheduler by the preset `address`.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from infra.compute.cluster_spec import ClusterSection
from infra.compute.remote import dask_cluster_resource
from infra.errors import UsageError

NAME = "stillroom-dask"
NAMESPACE = "stillroom"
_KEYS = {"envFrom": [{"secretRef": {"name": "stillroom-store"}}]}  # AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
_SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_POD = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsUser": 10001, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
}


def dask_resources(cpu_image: str, cuda_image: str) -> list[dict[str, Any]]:
    """The DaskCluster with its CPU workers, and a group of GPU workers of the same scheduler."""
    cluster, gpu = (
        _resource(preset, image) for preset, image in (("kubernetes", cpu_image), ("kubernetes-gpu", cuda_image))
    )
    group = {
        "apiVersion": cluster["apiVersion"],
        "kind": "DaskWorkerGroup",
        "metadata": {"name": f"{NAME}-gpu", "namespace": NAMESPACE},
        "spec": {"cluster": NAME, "worker": gpu["spec"]["worker"]},
    }
    return [cluster, group]


def _resource(preset: str, image: str) -> dict[str, Any]:
    pod = ClusterSection.model_validate({"preset": preset}).kubernetes
    assert pod is not None
    # Never idle long enough to be removed: 0 means for ever.
    own = {"image": image, "idle_timeout": 0, "container": {**_KEYS, "securityContext": _SAFE}, "pod": pod.pod | _POD}
    made = dask_cluster_resource(ClusterSection.model_validate({"preset": preset, "kubernetes": own}))
    drawn = made["metadata"]["name"]
    made = _renamed(made, drawn)
    made["metadata"]["namespace"] = NAMESPACE
    scheduler = made["spec"]["scheduler"]["spec"]
    scheduler |= _POD
    scheduler["containers"][0]["securityContext"] = _SAFE
    return made


def _renamed(value: Any, drawn: str) -> Any:
    """The resource under its lasting name, wherever the drawn one stands."""
    if isinstance(value, dict):
        return {key: _renamed(inner, drawn) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, drawn) for inner in value]
    return value.replace(drawn, NAME) if isinstance(value, str) else value


def as_yaml(resources: list[dict[str, Any]]) -> str:
    """For `kubectl apply`; no anchors, which people read badly."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump_all(resources, Dumper=Plain, sort_keys=False, width=120)


if __name__ == "__main__":
    try:
        if len(sys.argv) != 3:
            raise UsageError("name two images: python -m infra.deploy.dask_resources CPU_IMAGE CUDA_IMAGE")
        print(as_yaml(dask_resources(sys.argv[1], sys.argv[2])), end="")
    except UsageError as wrong:
        sys.exit(f"error: {wrong}")
