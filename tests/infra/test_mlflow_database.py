"""MLflow's database on a first run: whole or absent, whoever makes it, however they end."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from infra.errors import UsageError
from infra.servers.file_lock import FileLock
from infra.servers.mlflow_database import latest_revision, prepare
from infra.servers.tracking import connect, experiment

FIRST_RUN = """
from infra.servers.tracking import connect, experiment
print(experiment(connect(), "a line"))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a first run makes it."""
    file = tmp_path_factory.mktemp("made") / "mlflow.db"
    prepare(f"sqlite:///{file}")
    return file


@pytest.fixture
def database(home: Path, made: Path) -> Path:
    """A copy of it where this machine has its own."""
    home.mkdir()
    return Path(shutil.copy(made, home / "mlflow.db"))


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as opened, opened:
        for statement in statements:
            opened.execute(statement)


def first_run() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_first_runs_that_start_at_once_share_database_and_experiment(home: Path) -> None:
    runs = [first_run() for _ in range(3)]
    ends = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], ends
    assert len({out for out, _ in ends}) == 1


def test_a_run_that_is_killed_while_it_makes_the_database_leaves_none(home: Path) -> None:
    run = first_run()
    new = home / "mlflow.db.new"
    while not (new.exists() and new.stat().st_size):
        assert run.poll() is None
        time.sleep(0.001)
    run.kill()
    run.communicate()
    assert not (home / "mlflow.db").exists()
    assert experiment(connect(), "a line") == "1"
    assert not list(home.glob("mlflow.db.new*"))


def test_a_half_made_database_is_put_aside(database: Path) -> None:
    change(database, "DROP TABLE registered_model_aliases", "UPDATE alembic_version SET version_num = 'half'")
    assert experiment(connect(), "a line") == "1"
    assert len(list(database.parent.glob("mlflow.db.broken-*"))) == 1


def test_a_database_of_another_version_with_runs_in_it_stays(database: Path) -> None:
    insert = "INSERT INTO registered_models (name, creation_time, workspace) VALUES ('a student', 0, 'default')"
    change(database, insert, "UPDATE alembic_version SET version_num = 'older'")
    before = database.read_bytes()
    with pytest.raises(UsageError, match=rf"schema older.*{latest_revision()}.*mlflow db upgrade sqlite:///{database}"):
        connect()
    assert database.read_bytes() == before


def test_another_file_in_its_place_is_named(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_text("notes of somebody\n" * 100)
    with pytest.raises(UsageError, match=r"mlflow\.db is not one .*move it away"):
        connect()


def test_it_is_for_its_owner_alone(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_a_deleted_experiment_is_named(database: Path) -> None:
    client = connect()
    client.delete_experiment(experiment(client, "a line"))
    with pytest.raises(UsageError, match=r"'a line' was deleted; restore it .*--experiment-id 1"):
        experiment(client, "a line")


def test_a_lock_is_free_once_its_holder_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"""
import time
from pathlib import Path
from infra.servers.file_lock import FileLock
with FileLock(lambda: Path({str(path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    with FileLock(lambda: path) as lock, lock:
        assert os.path.exists(path)
    holder.communicate()
