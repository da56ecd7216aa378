"""What MLflow would refuse at the end of a run is said before its first stage."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.errors import TransientError, UsageError
from infra.servers.prefect_api import free_port
from infra.servers.tracking import connect, tracking_place, tracking_uri
from infra.servers.tracking_check import check_reachable, check_tracking
from infra.settings import reload_settings


class _Guarded(BaseHTTPRequestHandler):
    """Reading is allowed to one user, writing to nobody."""

    asked: list[str]

    def do_GET(self) -> None:
        self._answer(200, {"experiment": {"experiment_id": "1", "name": "a line", "lifecycle_stage": "active"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != "Basic bWU6c2VjcmV0":  # me:secret
            self._answer(401, {})
        elif self.path.endswith("/search"):
            self._answer(200, {"experiments": []})
        else:
            self._answer(403, {"error_code": "PERMISSION_DENIED", "message": "Permission denied"})

    def _answer(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Host and port of a tracking server that lets `me:secret` read."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is signed in with MLflow."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")


def use(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", uri)
    reload_settings()


def test_a_server_that_nobody_runs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, uri := f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError, match=rf"MLflow at {uri}/api.* cannot be reached: nobody listens there"):
        check_reachable()


def test_a_database_server_that_nobody_runs_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, f"postgresql://me:secret@127.0.0.1:{free_port()}/mlflow")
    with pytest.raises(TransientError, match=r"MLflow's database at postgresql://127\.0\.0\.1") as raised:
        check_reachable()
    assert "secret" not in str(raised.value)


def test_a_server_that_wants_a_password_says_where_to_set_it(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, f"http://{guarded}")
    with pytest.raises(UsageError, match=r"HTTP 401\); set MLFLOW_TRACKING_USERNAME"):
        check_reachable()


def test_a_server_that_forbids_writing_is_named_without_the_password(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, f"http://me:secret@{guarded}")
    check_reachable()
    with pytest.raises(UsageError, match=rf"^MLflow at http://{guarded} does not let us write") as raised:
        check_tracking("a line", "a student")
    assert "secret" not in str(raised.value)


def test_a_password_stands_in_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "http://me:secret@mlflow.example:5000/")
    assert tracking_uri() == tracking_place() == "http://mlflow.example:5000"


def test_our_own_database_takes_everything(home: Path) -> None:
    check_tracking("a line", "a student")
    client = connect()
    assert client.get_experiment_by_name("a line") is not None
    assert client.search_registered_models() == []
