"""Migrated databases of Prefect and MLflow, made once for a run of the suite.

A server brings a new database through all its migrations, 10 s for Prefect's; tests that are not about a machine's
first run start with a copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from infra.servers.prefect_api import free_port, start_api
from infra.servers.server_process import wait_for
from infra.settings import reload_settings

FOLDER = "STILLROOM_TEST_DATABASES"
"""Environment variable: the folder in which the processes of one run of the suite share them."""

AUTH = "stillroom:for tests"
"""What the API that tests share wants to hear."""

_MAKE = """
import os
from infra.servers.prefect_api import prefect_api
from infra.servers.tracking import connect
connect().search_experiments()
os.environ.pop("PREFECT_API_URL", None)
with prefect_api():
    pass
"""


def copy_databases(home: Path) -> None:
    """Put migrated databases where a `STILLROOM_HOME` has them; what is there stays."""
    folder = Path(os.environ[FOLDER])
    made = folder / "home"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            _make(folder / "new")
            (folder / "new").rename(made)
    for file in (*made.glob("mlflow.db*"), *made.glob("prefect/prefect.db*")):
        copy = home / file.relative_to(made)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)


@contextmanager
def migrated_settings(home: Path) -> Iterator[None]:
    """Settings of a machine with that home, on which Prefect and MLflow have run before, while the block runs."""
    copy_databases(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_HOME", str(home))
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"):
            patch.setenv(name, "")  # so that what the block sets is undone
            patch.delenv(name)
        reload_settings()
        yield
    reload_settings()


def _make(home: Path) -> None:
    own = {"STILLROOM_HOME": str(home)}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "STILLROOM_"))}
    subprocess.run([sys.executable, "-c", _MAKE], env={**inherited, **own}, check=True)


@contextmanager
def shared_api(home: Path) -> Iterator[str]:
    """A Prefect API over a home's database that asks for `AUTH`; its URL. It ends with the block."""
    with migrated_settings(home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_API_AUTH_STRING", AUTH)
        server = start_api(port := free_port())
        wait_for(f"http://127.0.0.1:{port}/api/health", server)
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        server.stop()
