"""A registry as hospitals run it: MLflow on PostgreSQL, files in S3 behind it, and users with passwords."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.errors import UsageError
from infra.servers.tracking import connect, versions
from infra.servers.tracking_user import tracking_user
from infra.settings import reload_settings
from tasks.register.champion import promote
from tasks.register.offers import refuse
from tasks.registry.lineage import lineage
from tasks.registry.pull import pull
from tests.mlflowserver import QUICK, MlflowServer
from tests.postgresserver import PostgresServer, binary
from tests.s3server import S3Server
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged

WHO, PASSWORD = "registrar", "a-long-enough-secret"
_AUTH = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = registrar
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
workspace_cache_max_size = 10000
workspace_cache_ttl_seconds = 3600
auth_cache_max_size = 10000
auth_cache_ttl_seconds = 0
"""


@pytest.fixture(scope="module")
def students(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, s3_server: S3Server
) -> Iterator[JudgedStudents]:
    """Students to register there; nobody has signed in."""
    missing = [name for name in ("psycopg2", "flask_wtf") if find_spec(name) is None]
    missing += [] if binary("postgres") else ["PostgreSQL"]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install psycopg2-binary 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("site")
    (folder / "auth.ini").write_text(_AUTH.format(folder=folder))
    env = {
        "MLFLOW_S3_ENDPOINT_URL": s3_server.endpoint,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": WHO,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests",
    }
    with own_machine(tmp_path_factory.mktemp("home")), pytest.MonkeyPatch.context() as patch:
        database = PostgresServer()
        server = MlflowServer(
            folder,
            f"s3://{s3_server.bucket()}/mlflow",
            backend=database.url,
            more=("--app-name", "basic-auth"),
            env=env,
        )
        try:
            patch.setenv("STILLROOM_MLFLOW_URI", server.start().url)
            for name, value in QUICK.items():
                patch.setenv(name, value)
            reload_settings()
            yield judged(folder, cluster)
        finally:
            server.kill()
            database.close()


def sign_in(patch: pytest.MonkeyPatch, password: str) -> None:
    patch.setenv("MLFLOW_TRACKING_USERNAME", WHO)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def test_who_knows_the_password_registers_and_pulls(
    students: JudgedStudents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, PASSWORD)
    facts = students.register("eyes").facts
    assert (facts["version"], facts["aliases"]) == ("1", ["challenger", "champion"])
    note, _ = pull("eyes@champion", tmp_path / "eyes")
    assert note.verified
    assert students.register("eyes").facts == facts
    assert len(versions(connect(), "eyes")) == 1
    assert lineage("eyes", students.corpus.store).sound


@pytest.mark.parametrize("password", ["a-wrong-secret", ""])
def test_a_wrong_password_is_refused_and_not_repeated(
    students: JudgedStudents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    sign_in(monkeypatch, password)
    for refused in (lambda: pull("eyes", tmp_path / "made"), lambda: students.register("other")):
        with pytest.raises(UsageError, match=r"wants to know who asks.*HTTP 401.*MLFLOW_TRACKING_PASSWORD") as raised:
            refused()
        assert "wrong" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_decision_names_the_user_that_mlflow_checked_beside_the_typed_name(
    students: JudgedStudents, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, PASSWORD)
    client = connect()
    client.create_registered_model("hearts")
    for _ in range(2):
        client.create_model_version("hearts", source="s3://models/hearts", tags={"stillroom.gate": "passed"})
    move = promote("hearts", "1", by="Dr. Ito", reason="better")
    assert (move.by, move.user) == ("Dr. Ito", WHO)
    assert move.who == f"Dr. Ito (as typed, by the MLflow user {WHO})"
    assert refuse("hearts", "2", by="Dr. Ono", reason="worse").user == WHO
    sign_in(monkeypatch, "a-wrong-secret")
    assert tracking_user() == ""
