"""Kubernetes' files: resources that its API knows, values that the charts know, no secret in any of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.compute.cluster_spec import MOUNTED_TLS, ClusterSection
from infra.deploy.dask_resources import NAME, as_yaml, dask_resources
from tests.infra.deploy.files import DEPLOY, documents
from tests.infra.test_presets import _close

CPU, CUDA = "registry.example.org/stillroom:0.1.0-cpu", "registry.example.org/stillroom:0.1.0-cuda"
MODELS = {
    "Deployment": "V1Deployment",
    "Service": "V1Service",
    "NetworkPolicy": "V1NetworkPolicy",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
}


@pytest.fixture(scope="module")
def models() -> Any:
    """Kubernetes' API as models of its own client, which refuse fields that it does not know."""
    return pytest.importorskip("kubernetes.client.models")


@pytest.mark.parametrize("name", ["mlflow.yaml", "volumes.yaml"])
def test_kubernetes_knows_every_field(name: str, models: Any) -> None:
    for resource in documents(name):
        assert getattr(models, MODELS[resource["kind"]]).model_validate(resource).spec is not None


def test_a_field_that_kubernetes_does_not_know_is_found(models: Any) -> None:
    deployment = documents("mlflow.yaml")[0]
    deployment["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(ValidationError, match=r"containers\.0\.volumeMount"):
        models.V1Deployment.model_validate(deployment)


def test_the_dask_file_is_what_the_presets_make() -> None:
    text = (DEPLOY / "kubernetes" / "dask.yaml").read_text(encoding="utf-8")
    assert "".join(line for line in text.splitlines(True) if not line.startswith("#")) == as_yaml(
        dask_resources(CPU, CUDA)
    )


@pytest.mark.parametrize("number", [0, 1])
def test_the_dask_operator_accepts_its_resources(number: int) -> None:
    resource = documents("dask.yaml")[number]
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or found.origin is None:
        pytest.skip("dask-kubernetes is not installed")
    folder = Path(found.origin).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    crd = yaml.safe_load((folder / f"{resource['kind'].lower()}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    schema["properties"]["metadata"] = {"type": "object"}
    _close(schema)
    jsonschema.validate(resource, schema)


def test_gpu_workers_are_a_group_of_the_same_scheduler() -> None:
    cluster, group = documents("dask.yaml")
    assert group["spec"]["cluster"] == cluster["metadata"]["name"] == NAME
    (worker,) = group["spec"]["worker"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["args"][0] == f"tls://{NAME}-scheduler:8786"
    assert worker["args"][-2:] == ["--resources", "GPU=1"]


class Chart(BaseModel):
    """Values that we set, under the names that the charts' schemas have (prefect-server and prefect-worker of 2026)."""

    model_config = ConfigDict(extra="forbid")


class Security(Chart):
    runAsUser: int
    runAsNonRoot: bool
    readOnlyRootFilesystem: bool | None = None
    allowPrivilegeEscalation: bool | None = None
    capabilities: dict[str, list[str]] | None = None
    fsGroup: int | None = None
    seccompProfile: dict[str, str] | None = None


class Resources(Chart):
    requests: dict[str, str]
    limits: dict[str, str]


class BasicAuth(Chart):
    enabled: bool
    existingSecret: str


class Pages(Chart):
    prefectUiApiUrl: str
    prefectUiStaticDirectory: str


class Image(Chart):
    repository: str
    prefectTag: str
    pullPolicy: str


class Enabled(Chart):
    enabled: bool


class Pod(Chart):
    replicaCount: int
    resources: Resources
    podSecurityContext: Security
    containerSecurityContext: Security


class Server(Pod):
    basicAuth: BasicAuth
    uiConfig: Pages
    env: list[dict[str, str]]
    livenessProbe: Enabled
    readinessProbe: Enabled


class WorkerConfig(Chart):
    workPool: str
    type: str
    installPolicy: str


class InitContainers(Chart):
    extraContainers: list[dict[str, Any]]


class ApiConfig(Chart):
    apiUrl: str
    uiUrl: str


class Worker(Pod):
    image: Image
    config: WorkerConfig
    apiConfig: str
    serverApiConfig: ApiConfig
    initContainer: InitContainers
    extraEnvVars: list[dict[str, Any]]
    extraEnvVarsSecret: str
    extraVolumes: list[dict[str, Any]]
    extraVolumeMounts: list[dict[str, Any]]


class PrefectImage(Chart):
    image: Image


class Global(Chart):
    prefect: PrefectImage


class DatabaseSecret(Chart):
    create: bool
    name: str


class ServiceValues(Chart):
    type: str
    port: int


class ServerValues(Chart):
    server: Server
    secret: DatabaseSecret
    postgresql: Enabled
    sqlite: Enabled
    service: ServiceValues


class Role(Chart):
    extraPermissions: list[dict[str, list[str]]]


class WorkerValues(Chart):
    worker: Worker
    role: Role


def test_the_charts_know_every_value() -> None:
    (server,), (worker,) = documents("prefect-server.yaml"), documents("prefect-worker.yaml")
    Global.model_validate(server.pop("global"))
    ServerValues.model_validate(server)
    WorkerValues.model_validate(worker)


def test_pods_of_the_charts_have_volumes_and_containers_that_kubernetes_knows(models: Any) -> None:
    server, worker = documents("prefect-server.yaml")[0]["server"], documents("prefect-worker.yaml")[0]["worker"]
    for volume in worker["extraVolumes"]:
        models.V1Volume.model_validate(volume)
    for mount in worker["extraVolumeMounts"]:
        models.V1VolumeMount.model_validate(mount)
    for variable in [*server["env"], *worker["extraEnvVars"]]:
        models.V1EnvVar.model_validate(variable)
    for container in worker["initContainer"]["extraContainers"]:
        models.V1Container.model_validate(container)
    assert MOUNTED_TLS in {mount["mountPath"] for mount in worker["extraVolumeMounts"]}


def test_no_image_runs_as_root_and_none_can_become_it() -> None:
    contexts = [
        documents("prefect-server.yaml")[0]["server"]["podSecurityContext"],
        documents("prefect-worker.yaml")[0]["worker"]["podSecurityContext"],
        documents("mlflow.yaml")[0]["spec"]["template"]["spec"]["securityContext"],
        *(resource["spec"]["worker"]["spec"]["securityContext"] for resource in documents("dask.yaml")),
    ]
    assert all(context["runAsNonRoot"] and context["runAsUser"] == 10001 for context in contexts)
    assert "useradd --uid 10001" in (DEPLOY / "Containerfile").read_text(encoding="utf-8")


def test_a_run_within_kubernetes_finds_the_lasting_scheduler() -> None:
    section = ClusterSection.model_validate({"preset": "address", "address": f"tls://{NAME}-scheduler.stillroom:8786"})
    service = documents("dask.yaml")[0]["spec"]["scheduler"]["service"]
    assert str(section.address).endswith(f":{service['ports'][0]['port']}")
