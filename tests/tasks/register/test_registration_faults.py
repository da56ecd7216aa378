"""A registration whose server goes away at some step: an error that is tried again, and one version in the end.

The server is a real one that keeps its files in S3; proxies before it and before S3 break chosen requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.errors import TransientError, UsageError
from infra.servers.answer import basic
from infra.servers.tracking import connect, versions
from infra.servers.tracking_user import tracking_user
from infra.settings import reload_settings
from tasks.register.versions import KEY_TAG
from tasks.registry.pull import pull
from tests.mlflowserver import QUICK, MlflowServer
from tests.s3server import FaultProxy, S3Server
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Site:
    """A server, the proxies before it and before its S3 store, and students to register there."""

    server: MlflowServer
    front: FaultProxy
    files: FaultProxy
    students: JudgedStudents

    def gone(self) -> None:
        """From now on every request fails."""
        for method in METHODS:
            self.front.fail("reset", method, times=-1)


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, s3_server: S3Server) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    files = FaultProxy(s3_server.endpoint)
    with own_machine(tmp_path_factory.mktemp("home")), pytest.MonkeyPatch.context() as patch:
        server = MlflowServer(
            folder, f"s3://{s3_server.bucket()}/mlflow", env={"MLFLOW_S3_ENDPOINT_URL": files.endpoint}
        ).start()
        front = FaultProxy(server.url)
        patch.setenv("STILLROOM_MLFLOW_URI", front.endpoint)
        for name, value in QUICK.items():
            patch.setenv(name, value)
        reload_settings()
        yield Site(server, front, files, judged(folder, cluster))
        front.close()
        server.kill()
    files.close()


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    """The site, with nothing broken yet."""
    whole_site.front.clear()
    whole_site.files.clear()
    yield whole_site
    whole_site.front.clear()
    whole_site.files.clear()


def registered_once(site: Site, name: str, folder: Path) -> None:
    """A registration succeeds, and there is one version of it, with its files, and nothing left open."""
    facts = site.students.register(name).facts
    client = connect()
    (version,) = versions(client, name)
    assert facts["version"] == str(version.version)
    assert facts["aliases"] == ["challenger", "champion"]
    place = client.get_experiment_by_name("tiny-student").experiment_id
    key = version.tags[KEY_TAG]
    models = client.search_logged_models([place], f"tags.`{KEY_TAG}` = '{key}'")
    assert "PENDING" not in {str(model.status) for model in models}
    assert str(client.get_logged_model(version.source.removeprefix("models:/")).status) == "READY"
    runs = client.search_runs([place], f"tags.`{KEY_TAG}` = '{key}'")
    assert "RUNNING" not in {run.info.status for run in runs}
    assert client.get_run(version.run_id).info.status == "FINISHED"
    pull(name, folder / name)


STEPS = {
    "model": ("POST", "2.0/mlflow/logged-models"),
    "file": ("PUT", "2.0/mlflow-artifacts/artifacts/*network.pt2"),
    "version": ("POST", "2.0/mlflow/model-versions/create"),
    "alias": ("POST", "2.0/mlflow/registered-models/alias"),
}


@pytest.mark.parametrize("step", ["model", "file", "version", "alias"])
def test_a_server_that_goes_away_after_a_step_loses_nothing(site: Site, step: str, tmp_path: Path) -> None:
    site.front.fail(site.gone, *STEPS[step])
    with pytest.raises(TransientError, match="cannot be reached or fails"):
        site.students.register(f"after-{step}")
    assert site.front.waiting == []
    site.front.clear()
    registered_once(site, f"after-{step}", tmp_path)


@pytest.mark.parametrize("step", ["model", "version", "alias"])
def test_a_step_whose_answers_are_lost_is_done_once(site: Site, step: str, tmp_path: Path) -> None:
    site.front.fail("lost", *STEPS[step], times=-1)
    with pytest.raises(TransientError, match="cannot be reached or fails"):
        site.students.register(f"lost-{step}")
    site.front.clear()
    registered_once(site, f"lost-{step}", tmp_path)


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_file_whose_first_upload_fails_is_sent_again(site: Site, fault: str, tmp_path: Path) -> None:
    # MLflow asks twice; the second attempt is ours.
    site.front.fail(fault, *STEPS["file"], times=2)
    registered_once(site, f"again-{fault}", tmp_path)
    assert site.front.count(*STEPS["file"]) == 3


def test_a_file_that_the_store_gives_back_otherwise_is_sent_again(site: Site, tmp_path: Path) -> None:
    site.files.fail("wrong", "GET", "*network.pt2")
    registered_once(site, "otherwise-once", tmp_path)
    assert site.front.count(*STEPS["file"]) == 2


def test_a_file_that_the_store_never_gives_back_as_it_was_is_named(site: Site, tmp_path: Path) -> None:
    site.files.fail("wrong", "GET", "*network.pt2", times=-1)
    with pytest.raises(TransientError, match=r"does not hold artifacts/network\.pt2 as it was uploaded"):
        site.students.register("otherwise")
    client = connect()
    assert versions(client, "otherwise") == []
    place: Any = client.get_experiment_by_name("tiny-student").experiment_id
    assert "FAILED" in {str(model.status) for model in client.search_logged_models([place])}
    site.files.clear()
    registered_once(site, "otherwise", tmp_path)


def test_a_server_that_is_killed_while_files_go_up_and_started_again_has_one_version(
    site: Site, tmp_path: Path
) -> None:
    site.front.fail(site.server.kill, *STEPS["file"])
    with pytest.raises(TransientError, match="cannot be reached or fails"):
        site.students.register("killed")
    site.server.start()
    registered_once(site, "killed", tmp_path)


def test_a_server_that_asks_for_a_password_gets_it_with_every_request(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.front.authorization = basic("registrar:right")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "registrar")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right")
    registered_once(site, "guarded", tmp_path)


def test_a_wrong_password_is_refused_and_not_repeated(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.front.authorization = basic("registrar:right")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "registrar")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    for refused in (lambda: pull("guarded", tmp_path / "made"), lambda: site.students.register("refused")):
        with pytest.raises(UsageError, match=r"wants to know who asks.*HTTP 401.*MLFLOW_TRACKING_PASSWORD") as raised:
            refused()
        assert "wrong" not in str(raised.value)


def test_a_server_that_is_down_is_transient(site: Site) -> None:
    site.gone()
    with pytest.raises(TransientError, match="cannot be reached or fails"):
        site.students.register("down")


def test_a_name_that_nobody_checks_is_no_user(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-secret")
    assert tracking_user() == ""
    site.gone()
    assert tracking_user() == ""
