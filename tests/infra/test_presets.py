"""Presets of `run.cluster`, and what is made of them: a job script, a resource of Kubernetes."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import MOUNTED_TLS, WORKER_ENVIRONMENT, ClusterSection
from infra.compute.preset import names
from infra.compute.remote import dask_cluster_resource, slurm
from infra.errors import UsageError


def section(**values: Any) -> ClusterSection:
    return ClusterSection.model_validate(values)


@pytest.mark.parametrize("name", names())
def test_every_packaged_preset_is_a_whole_section_of_its_kind(name: str) -> None:
    assert section(preset=name).kind == name.removesuffix("-gpu")


def test_keys_beside_a_preset_override_it_part_by_part() -> None:
    found = section(preset="slurm-gpu", workers=9, slurm={"queue": "a100"})
    assert found.workers == 9
    assert found.slurm is not None
    assert (found.slurm.queue, found.slurm.job_extra_directives) == ("a100", ["--gres=gpu:1"])


def test_a_preset_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("kind: local\nworkers: 3\n")
    assert section(preset=str(path)) == section(workers=3)


def test_a_relative_path_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours.yaml").write_text("workers: 3\n")
    monkeypatch.chdir(tmp_path)
    assert section(preset="ours.yaml").workers == 3


def test_a_resolved_section_stands_for_itself() -> None:
    found = section(preset="kubernetes")
    assert found.preset is None
    assert ClusterSection.model_validate(found.model_dump()) == found


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no packaged preset slurm-cpu; did you mean slurm-gpu"):
        section(preset="slurm-cpu")


def test_a_preset_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path / "none.yaml")):
        section(preset=str(tmp_path / "none.yaml"))


def test_an_unknown_key_in_a_preset_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("kind: slurm\nslurm: {cores: 1, memory: 1GB, wall_time: '1:00'}\n")
    with pytest.raises(UsageError, match=r"ours\.yaml .* unknown key slurm\.wall_time; did you mean walltime\?"):
        section(preset=str(path))


def test_a_wrong_value_in_a_preset_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("workers: many\n")
    with pytest.raises(UsageError, match=r"workers: .*'many'"):
        section(preset=str(path))


@pytest.mark.parametrize("text", ["- a list", "preset: slurm", "{"])
def test_a_preset_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"ours\.yaml"):
        section(preset=str(path))


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "ssh"},
        {"ssh": {"hosts": ["a"]}},
        {"kind": "slurm", "threads": 2, "slurm": {"cores": 4, "memory": "4GB"}},
        {"kind": "kubernetes", "gpus": 2, "kubernetes": {"image": "i"}},
    ],
)
def test_parts_go_with_their_kind(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"cluster\."):
        section(**values)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tls: str) -> str:
    """The job script of a SLURM preset."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.chdir(tmp_path)
    cluster, _ = slurm(section(preset=request.param, tls=tls, slurm={"queue": "fast", "account": "us"}))
    with cluster:
        return str(cluster.job_script())


@pytest.mark.parametrize("script", ["slurm-gpu"], indirect=True)
def test_a_slurm_job_asks_for_its_gpu_and_offers_it_to_dask(script: str) -> None:
    for line in ("-p fast", "-A us", "--cpus-per-task=8", "-t 24:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 8" in script
    assert "--resources GPU=1" in script


@pytest.mark.parametrize("script", ["slurm"], indirect=True)
def test_a_slurm_job_without_a_gpu_offers_none(script: str) -> None:
    assert "GPU" not in script
    assert "--nworkers 16" in script


@pytest.mark.parametrize("script", ["slurm"], indirect=True)
def test_slurm_workers_are_set_up_like_local_ones(script: str) -> None:
    assert "--preload infra.compute.worker_preload" in script
    for name, value in WORKER_ENVIRONMENT.items():
        assert f"export {name}={value}\n" in script
    assert "export DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL=100ms\n" in script


@pytest.mark.parametrize("script", ["slurm"], indirect=True)
def test_slurm_workers_are_told_where_their_certificates_lie(script: str, tls: str) -> None:
    assert f"--protocol tls:// --tls-ca-file {tls}/ca.crt --tls-cert {tls}/tls.crt --tls-key {tls}/tls.key" in script
    assert "tls://" in script.partition("dask_worker ")[2].partition(" ")[0]
    assert "export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True\n" in script
    assert "PRIVATE KEY" not in script


def test_slurm_without_certificates_says_how_to_make_them(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(UsageError, match=r"python -m infra\.compute\.certificates"):
        slurm(section(preset="slurm", tls=str(tmp_path)))


def test_slurm_without_sbatch_says_where_to_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Cluster(section(preset="slurm")) as cluster, pytest.raises(UsageError, match="no sbatch here"):
        cluster.client  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "module"), [("ssh", "asyncssh"), ("slurm", "dask_jobqueue"), ("kubernetes", "dask_kubernetes.operator")]
)
def test_a_missing_package_is_named_with_its_extra(
    kind: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, module, None)
    with (
        Cluster(section(preset=kind)) as cluster,
        pytest.raises(UsageError, match=rf"pip install 'stillroom\[{kind}\]'"),
    ):
        cluster.client  # noqa: B018


def _crd() -> dict[str, Any]:
    """The schema by which Kubernetes judges a DaskCluster, with fields it does not know refused, not dropped."""
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or found.origin is None:
        pytest.skip("dask-kubernetes is not installed")
    folder = Path(found.origin).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    crd = yaml.safe_load((folder / "daskcluster.yaml").read_text())
    schema: dict[str, Any] = copy.deepcopy(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    schema["properties"]["metadata"] = {"type": "object"}
    _close(schema)
    return schema


def _close(schema: Any) -> None:
    if isinstance(schema, list):
        for item in schema:
            _close(item)
    if not isinstance(schema, dict):
        return
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema and not open_ended:
        schema["additionalProperties"] = False
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
    for value in schema.values():
        _close(value)


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes-gpu"])
def test_kubernetes_accepts_what_is_made_of_a_preset(name: str) -> None:
    pod = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    jsonschema.validate(
        dask_cluster_resource(section(preset=name, kubernetes={"pod": pod, "container": container})), _crd()
    )


def test_kubernetes_would_refuse_a_field_that_it_does_not_know() -> None:
    made = dask_cluster_resource(section(preset="kubernetes", kubernetes={"pod": {"node_selector": {"a": "b"}}}))
    with pytest.raises(jsonschema.ValidationError, match="node_selector"):
        jsonschema.validate(made, _crd())


def test_a_gpu_pod_owns_a_gpu_and_the_scheduler_none() -> None:
    spec = dask_cluster_resource(section(preset="kubernetes-gpu"))["spec"]
    (worker,), (scheduler,) = (spec[part]["spec"]["containers"] for part in ("worker", "scheduler"))
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["args"][-2:] == ["--resources", "GPU=1"]
    assert "nvidia.com/gpu" not in str(scheduler["resources"])


def test_pods_are_set_up_like_local_workers() -> None:
    spec = dask_cluster_resource(section(preset="kubernetes", kubernetes={"env": {"STILLROOM_POLL": "1"}}))["spec"]
    worker = spec["worker"]["spec"]["containers"][0]
    environment = {item["name"]: item["value"] for item in worker["env"]}
    assert environment.items() >= {**WORKER_ENVIRONMENT, "STILLROOM_POLL": "1"}.items()
    assert environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] == "0"
    assert worker["args"][worker["args"].index("--preload") + 1] == "infra.compute.worker_preload"


def test_pods_read_their_certificates_from_the_secret() -> None:
    mounted = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pod = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    own = {"tls_secret": "ours", "pod": pod, "container": mounted}
    made = dask_cluster_resource(section(preset="kubernetes", kubernetes=own))
    worker, scheduler = (made["spec"][part]["spec"] for part in ("worker", "scheduler"))
    for spec in (worker, scheduler):
        assert spec["volumes"][-1]["secret"] == {"secretName": "ours"}
        assert spec["containers"][0]["volumeMounts"][-1]["mountPath"] == MOUNTED_TLS
        environment = {item["name"]: item["value"] for item in spec["containers"][0]["env"]}
        assert environment["DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY"] == f"{MOUNTED_TLS}/tls.key"
    assert [volume["name"] for volume in worker["volumes"]] == ["data", "stillroom-dask-tls"]
    assert worker["containers"][0]["args"][0] == f"tls://{made['metadata']['name']}-scheduler:8786"
