"""The services of the compose file, as processes: they find each other, and refuse who does not know their secrets."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.compute.certificates import create
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.deploy.mlflow_user import make_user
from infra.errors import TransientError, UsageError
from infra.servers.server_process import wait_for
from infra.servers.tracking import connect, quiet
from infra.servers.tracking_check import check_tracking
from infra.settings import reload_settings
from infra.storage.store import open_store
from tests.infra.deploy.processes import Processes, postgres_folder

pytestmark = pytest.mark.slow

PATIENCE = 180.0  # seconds for a service to answer on a busy machine


def until(what: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What a call returns once it raises none of the errors any more."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return what()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="module")
def services() -> Iterator[Processes]:
    """All of them but the GPU worker, running."""
    for package in ("psycopg2", "flask_wtf"):
        pytest.importorskip(package, reason="the extra `servers` is not installed")
    if postgres_folder() is None or shutil.which("rclone", path=f"{Path(sys.executable).parent}") is None:
        pytest.skip("no PostgreSQL or no rclone")
    # PostgreSQL's own user must reach its folder, which it cannot below pytest's.
    top = Path(tempfile.mkdtemp(prefix="stillroom-services-"))
    top.chmod(0o711)
    started = Processes(top / "data")
    started.folder.chmod(0o711)
    try:
        for name in ("prefect-db", "mlflow-db", "store-s3", "artifacts-s3", "dask-scheduler"):
            started.start(name)
        for name in ("prefect-db", "mlflow-db"):
            until(lambda name=name: started.create_database(name), ConnectionError)  # type: ignore[misc]
        for name in ("prefect-server", "mlflow", "dask-worker"):
            started.start(name)
        wait_for(f"{started.url('prefect-server')}/api/health")
        wait_for(f"{started.url('mlflow')}/health")
        started.run("mlflow-user")
        started.start("prefect-worker")
        yield started
    finally:
        started.close()
        shutil.rmtree(top)


@pytest.fixture
def as_line(services: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Processes]:
    """MLflow's clients ask as the user of the line."""
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path))
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", services.url("mlflow"))
    _become(monkeypatch, "line", services.secret("mlflow-line-password"))
    reload_settings()
    yield services
    monkeypatch.undo()
    reload_settings()


def _become(monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def _ask(url: str, userinfo: str | None, body: bytes = b"{}") -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    if userinfo is not None:
        headers["authorization"] = f"Basic {base64.b64encode(userinfo.encode()).decode()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def test_a_process_worker_waits_for_runs(services: Processes) -> None:
    def ready() -> list[dict[str, Any]]:
        url = f"{services.url('prefect-server')}/api/work_pools/filter"
        _, pools = _ask(url, services.secret("prefect-auth"))
        assert [(pool["name"], pool["type"], pool["status"]) for pool in pools] == [
            ("stillroom-cpu", "process", "READY")
        ]
        return pools

    assert until(ready, AssertionError)


@pytest.mark.parametrize("userinfo", [None, "stillroom:wrong"])
def test_prefect_refuses_who_does_not_know_its_secret(services: Processes, userinfo: str | None) -> None:
    assert _ask(f"{services.url('prefect-server')}/api/work_pools/filter", userinfo)[0] == 401


def test_mlflow_refuses_a_wrong_password_in_words(as_line: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    _become(monkeypatch, "line", "wrong-password-of-some-length")
    with pytest.raises(UsageError, match=r"wants to know who asks.*MLFLOW_TRACKING_PASSWORD") as caught:
        check_tracking("line", "model")
    assert "wrong-password" not in str(caught.value)


def test_artifacts_go_to_the_server_that_holds_no_images(as_line: Processes) -> None:
    check_tracking("artifacts", "model")
    client = connect()
    with quiet():
        run = client.create_run(client.get_experiment_by_name("artifacts").experiment_id).info.run_id
        client.log_text(run, "weights", "model.txt")
    (found,) = (as_line.folder / "artifacts-s3" / "mlflow").rglob("model.txt")
    assert found.read_text() == "weights"


def test_who_may_only_look_moves_no_alias(as_line: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    client = connect()
    with quiet():
        run = client.create_run(client.create_experiment("grading"))
        client.create_registered_model("grading")
        client.create_model_version("grading", run.info.artifact_uri, run.info.run_id)
        _become(monkeypatch, "admin", as_line.secret("mlflow-admin-password"))
        make_user(as_line.url("mlflow"), "doctor", "a password of the doctor's")
        _become(monkeypatch, "doctor", "a password of the doctor's")
        assert client.get_registered_model("grading").name == "grading"
        with pytest.raises(MlflowException, match="Permission denied"):
            client.set_registered_model_alias("grading", "champion", "1")
        _become(monkeypatch, "line", as_line.secret("mlflow-line-password"))
        client.set_registered_model_alias("grading", "champion", "1")


def test_a_changed_password_takes_effect(as_line: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    _become(monkeypatch, "admin", as_line.secret("mlflow-admin-password"))
    assert make_user(as_line.url("mlflow"), "nurse", "the first password") == "made user nurse"
    assert make_user(as_line.url("mlflow"), "nurse", "the second password").startswith("user nurse is there")
    for password, code in (("the first password", 401), ("the second password", 200)):
        question = f"{as_line.url('mlflow')}/api/2.0/mlflow/experiments/search"
        assert _ask(question, f"nurse:{password}", b'{"max_results": 1}')[0] == code


def test_the_line_reaches_the_workers_with_the_certificates(services: Processes, tmp_path: Path) -> None:
    section = {"preset": "address", "address": services.url("dask-scheduler", "tls"), "wait": PATIENCE}
    with Cluster(ClusterSection.model_validate(section | {"tls": f"{services.folder}/secrets/dask-tls"})) as cluster:
        assert cluster.client.submit(sum, [1, 2]).result() == 3


def test_dask_refuses_certificates_of_somebody_else(services: Processes, tmp_path: Path) -> None:
    create(tmp_path / "tls")
    section = {"preset": "address", "address": services.url("dask-scheduler", "tls"), "wait": 5}
    with (
        Cluster(ClusterSection.model_validate(section | {"tls": str(tmp_path / "tls")})) as cluster,
        pytest.raises(TransientError, match="knows the certificates"),
    ):
        assert cluster.client


def test_the_store_is_served_to_who_has_its_keys_alone(services: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://stillroom/store?endpoint={services.url('store-s3')}&region=us-east-1"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", services.secret("store-access-key"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", services.secret("store-secret-key"))
    from infra.storage import s3_address

    s3_address._client.cache_clear()
    open_store(url).put("a", b"image")
    assert (services.folder / "store-s3" / "stillroom" / "store" / "a").read_bytes() == b"image"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", services.secret("artifacts-access-key"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", services.secret("artifacts-secret-key"))
    s3_address._client.cache_clear()
    with pytest.raises(UsageError):
        open_store(url).get("a")
    s3_address._client.cache_clear()


_SPEC = """
name: served
store: s3://stillroom/line?endpoint={store}&region=us-east-1
corpus: {{adapter: phantom-endoscopy, root: {corpora}/phantom, phantom: {{size: 64, labelled: 120, unlabelled: 40}}}}
ingest: {{shard_size: 64}}
views: {{size: 48, count: 1}}
teachers: [{{name: big, model: micro, train: {{steps: 20, batch: 16, lr: 1.0e-2}}}}]
student: {{model: micro_xs, train: {{steps: 20, batch: 16, lr: 1.0e-2}}}}
evaluate: {{bootstrap: 20, compare: false}}
gate: {{enabled: false}}
register: {{promote: automatic}}
run: {{cluster: {{preset: address, address: "{scheduler}", tls: {tls}}}}}
"""

# As `stillroom deploy` does it: a deployment that the worker's own installation runs.
_RUN = """
import sys
from prefect.deployments import run_deployment
from prefect.deployments.runner import EntrypointType
from flows.retrain import retrain
place = {"work_pool_name": "stillroom-cpu", "entrypoint_type": EntrypointType.MODULE_PATH}
retrain.to_deployment("served", parameters={"spec": sys.argv[1]}, **place).apply()
print(run_deployment("retrain/served").state.name)
"""

_PULL = """
import sys, mlflow, numpy as np
from pathlib import Path
student = mlflow.pyfunc.load_model("models:/served@champion")
photo = next(Path(sys.argv[1]).rglob("*.jpg")).read_bytes()
print(student.predict(np.array([photo], dtype=object)).shape[0])
"""


def test_the_worker_runs_the_line_and_a_client_pulls_the_champion(
    as_line: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora = as_line.folder / "corpora"
    spec = corpora / "served.yaml"
    tls = as_line.folder / "secrets" / "dask-tls"
    places = {"store": as_line.url("store-s3"), "scheduler": as_line.url("dask-scheduler", "tls")}
    spec.write_text(_SPEC.format(corpora=corpora, tls=tls, **places))
    state = as_line.python("prefect-worker", _RUN, str(spec))
    assert state == "Completed", as_line.log("prefect-worker")[-4000:]
    assert any((as_line.folder / "store-s3" / "stillroom" / "line" / "shards").rglob("*.tar"))
    _become(monkeypatch, "admin", as_line.secret("mlflow-admin-password"))
    make_user(as_line.url("mlflow"), "clinic", "a password of the clinic's")
    client = {"MLFLOW_TRACKING_USERNAME": "clinic", "MLFLOW_TRACKING_PASSWORD__FILE": f"{as_line.folder}/clinic"}
    (as_line.folder / "clinic").write_text("a password of the clinic's")
    assert as_line.python("prefect-worker", _PULL, str(corpora / "phantom"), **client) == "1"
