"""Where MLflow is, and that our use of it stays here."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import UsageError
from infra.servers.tracking import alias_of, connect, experiment, tracking_uri, versions
from infra.settings import reload_settings


def test_the_default_is_sqlite_under_home(home: Path) -> None:
    assert tracking_uri() == f"sqlite:///{home}/mlflow.db"


def test_our_variable_wins_over_mlflows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://theirs:5000")
    assert tracking_uri() == "http://theirs:5000"
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", "http://ours:5000")
    reload_settings()
    assert tracking_uri() == "http://ours:5000"


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns"])
def test_a_file_store_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UsageError, match="use sqlite:///PATH"):
        tracking_uri()


def test_a_fresh_database_knows_its_experiment_and_no_model(home: Path) -> None:
    client = connect()
    first = experiment(client, "a line")
    assert experiment(client, "a line") == first
    assert client.get_experiment(first).artifact_location == (home / "mlartifacts" / "a line").as_uri()
    assert versions(client, "nobody") == []
    assert alias_of(client, "nobody", "champion") is None
    client.create_registered_model("somebody")
    assert alias_of(client, "somebody", "champion") is None


def test_our_loggers_are_heard_after_a_database_was_made(home: Path) -> None:
    logger = logging.getLogger("infra.tests")
    experiment(connect(), "a line")
    assert not logger.disabled
    assert logger.isEnabledFor(logging.WARNING)


def test_importing_the_module_does_not_import_mlflow() -> None:
    code = "import sys, infra.servers.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
