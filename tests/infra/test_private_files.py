"""What servers and settings of this machine keep is their owner's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.private_files import private_file, private_folder
from infra.servers.server_process import ServerProcess
from infra.servers.tracking import connect


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_each_folder_that_is_made_is_private(open_umask: None, tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    assert (_mode(tmp_path / "a"), _mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "file").chmod(0o400)
    private_file(tmp_path / "file")
    assert (_mode(tmp_path / "file"), (tmp_path / "file").read_bytes()) == (0o400, b"1")


def test_a_server_s_files_and_log_are_private(open_umask: None, home: Path) -> None:
    made = home / "logs" / "made.zip"
    server = ServerProcess("probe", "zipfile", ["-c", str(made), __file__])
    assert server._process.wait(60) == 0
    assert (_mode(home), _mode(home / "logs"), _mode(server.log), _mode(made)) == (0o700, 0o700, 0o600, 0o600)


def test_the_tracking_database_is_private(open_umask: None, home: Path) -> None:
    client = connect()
    client.search_experiments()
    assert (home / "mlflow.db").stat().st_size > 0
    assert _mode(home / "mlflow.db") == 0o600
