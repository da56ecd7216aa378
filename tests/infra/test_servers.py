"""Servers that run as our children: a real Prefect API, log files, errors that quote them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.errors import TransientError, UsageError
from infra.servers.answer import answer, basic
from infra.servers.pages import Ports, serve, stop
from infra.servers.prefect_api import free_port, prefect_api, start_api
from infra.servers.process_tag import process_tag
from infra.servers.server_process import ServerProcess, log_folder, wait_for
from infra.servers.services import auth_file, served, services_note
from infra.settings import home_folder, reload_settings
from tests.databases import migrated_settings

STRANGER = """
import encodings.idna, json, os, sys, urllib.error, urllib.request
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
body = json.dumps({"name": "stranger"}).encode()
request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
for path in sys.argv[2:]:
    try:
        open(path, "rb").close()
        print("open")
    except PermissionError:
        print("closed")
"""
"""What another user of the machine tries: to write through an API, and to read files."""

START = 120.0  # seconds; a fresh database on a slow machine


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prefect's API as a run starts it, over a database of its own; its URL."""
    with migrated_settings(tmp_path_factory.mktemp("home")), prefect_api() as url:
        yield url


def post(url: str, body: dict[str, Any]) -> Any:
    token = basic(os.environ["PREFECT_API_AUTH_STRING"])
    headers = {"content-type": "application/json", "authorization": token}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    for attempt in range(5):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # The database is busy; Prefect's own client tries again too.
            if error.code != 503 or attempt == 4:
                raise
            time.sleep(1.0 + attempt)
    return None


def wait_until(condition: Callable[[], Any], seconds: float = START) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came in time"
        time.sleep(0.5)
    return found


def test_a_schedule_fires(prefect: str) -> None:
    flow = post(f"{prefect}/flows/", {"name": "tiny"})
    schedule = {"schedule": {"interval": 3600.0}, "active": True}
    body = {"name": "hourly", "flow_id": flow["id"], "schedules": [schedule], "enforce_parameter_schema": False}
    deployment = post(f"{prefect}/deployments/", body)
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    runs = wait_until(lambda: post(f"{prefect}/flow_runs/filter", wanted))
    assert {run["state"]["type"] for run in runs} == {"SCHEDULED"}
    assert {run["auto_scheduled"] for run in runs} == {True}


def test_prefect_removes_what_it_kept_of_old_runs(prefect: str) -> None:
    header = {"authorization": basic(os.environ["PREFECT_API_AUTH_STRING"])}
    with urllib.request.urlopen(urllib.request.Request(f"{prefect}/admin/settings", headers=header)) as answer:
        vacuum = json.load(answer)["server"]["services"]["db_vacuum"]
    assert set(vacuum["enabled"]) == {"events", "flow_runs"}


def test_prefects_command_lists_work_pools(prefect: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prefect", "work-pool", "ls"]
    env = {**os.environ, "PREFECT_API_URL": prefect, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def allowed_origin(url: str, origin: str) -> str | None:
    """What the server says to a browser whose page of that origin wants to post."""
    headers = {"origin": origin, "access-control-request-method": "POST"}
    request = urllib.request.Request(f"{url}/flows/", headers=headers, method="OPTIONS")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return str(reply.headers["access-control-allow-origin"])
    except urllib.error.HTTPError as error:
        with error:
            return error.headers["access-control-allow-origin"]


def test_the_api_answers_only_those_who_know_the_string_of_its_home(prefect: str) -> None:
    question = f"{prefect}/flow_runs/filter"
    with pytest.raises(UsageError, match="HTTP 401"):
        answer(question, "it", body=b"{}")
    assert answer(question, "it", body=b"{}", auth=basic(auth_file().read_text())).startswith(b"[")
    assert stat.S_IMODE(auth_file().stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_can_neither_write_through_the_api_nor_learn_its_string(prefect: str) -> None:
    files = [auth_file(), *auth_file().parent.rglob("*.db")]
    assert len(files) > 1
    with tempfile.TemporaryDirectory() as folder:
        # As if the way to the home were open to all, so that the files' own modes count.
        Path(folder).chmod(0o711)
        copies = [shutil.copy2(file, Path(folder) / str(number)) for number, file in enumerate(files)]
        command = [sys.executable, "-c", STRANGER, f"{prefect}/flows/", *map(str, [*files, *copies])]
        env = {"PATH": os.environ["PATH"]}
        ran = subprocess.run(command, cwd="/", env=env, check=False, capture_output=True, text=True)
    assert ran.stdout.split() == ["401", *["closed"] * 2 * len(files)], ran.stderr
    assert "stranger" not in {flow["name"] for flow in post(f"{prefect}/flows/filter", {})}


def test_a_page_of_another_origin_is_refused(prefect: str) -> None:
    assert allowed_origin(prefect, "http://evil.example") is None
    assert allowed_origin(prefect, prefect.removesuffix("/api")) == prefect.removesuffix("/api")


def test_what_a_server_writes_is_for_its_owner_alone(home: Path, tmp_path: Path) -> None:
    archive = tmp_path / "made.zip"
    server = ServerProcess("archive", "zipfile", ["-c", str(archive), __file__])
    with pytest.raises(TransientError, match="exit code 0"):
        wait_until(server.check)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_a_slash_at_the_end_of_the_address_is_no_matter(prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{prefect}/")
    with prefect_api() as url:
        assert url == os.environ["PREFECT_API_URL"] == prefect


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.removesuffix("/api"), r"HTTP 40.*has the form http://HOST:4200/api"),
        (lambda url: url.removeprefix("http://"), r"PREFECT_API_URL=127.*write it like http://HOST:4200/api"),
        (lambda url: url.replace("http://", "http://me:wrong@"), r"HTTP 401\); set PREFECT_API_AUTH_STRING"),
    ],
    ids=["without-api", "without-scheme", "wrong-password"],
)
def test_an_address_that_is_wrong_says_how_it_should_be(
    prefect: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str], said: str
) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_URL", change(prefect))
    with pytest.raises(UsageError, match=said) as raised, prefect_api():
        pass
    assert "wrong" not in str(raised.value)


def test_a_dead_address_is_named_within_seconds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    began = time.monotonic()
    with pytest.raises(TransientError, match=rf"PREFECT_API_URL: .*{url}/flow_runs.*nobody listens"), prefect_api():
        pass
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_pages_are_not_served_to_other_machines(home: Path, host: str) -> None:
    with pytest.raises(UsageError, match=rf"--host {host}: .*ssh -L"):
        serve(host, Ports(free_port(), free_port(), free_port()), print)


def test_a_taken_port_is_refused_by_its_option(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--mlflow-port {port}: .*already in use.*another port"):
            serve("127.0.0.1", Ports(free_port(), port, free_port()), print)


def test_two_services_do_not_share_a_port(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UsageError, match="--prefect-port and --page-port are both"):
        serve("127.0.0.1", Ports(port := free_port(), free_port(), port), print)


def test_down_leaves_a_stranger_alone_that_has_the_pid(home: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        host, pid, start = process_tag(stranger.pid).removeprefix("proc:").rsplit(":", 2)
        tag = f"proc:{host}:{pid}:{int(start) - 60}"
        home_folder()
        services_note().write_text(json.dumps({"process": tag, "pid": stranger.pid, "prefect": "http://127.0.0.1:1"}))
        assert stop() == "nothing is up"
        assert served() is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_note_without_a_start_time_counts_for_nothing(home: Path) -> None:
    home_folder()
    services_note().write_text(json.dumps({"pid": os.getpid(), "prefect": "http://127.0.0.1:1"}))
    assert stop() == "nothing is up"


def kill_the_api() -> None:
    with prefect_api() as url:
        port = url.removesuffix("/api").rpartition(":")[2]
        (server,) = [child for child in psutil.Process().children() if port in child.cmdline()]
        server.kill()
        wait_until(lambda: server.status() == psutil.STATUS_ZOMBIE)
        urllib.request.urlopen(f"{url}/health")


def test_an_api_that_dies_under_a_run_is_named_with_its_log(
    migrated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with pytest.raises(TransientError, match=r"prefect server ended with exit code -9; .*logs/prefect\.log"):
        kill_the_api()


def test_a_usage_error_stays_one(prefect: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    monkeypatch.setenv("PREFECT_HOME", str(home))
    with pytest.raises(UsageError), prefect_api():
        raise UsageError("the spec is wrong")


def test_a_server_whose_port_is_taken_says_so(home: Path) -> None:
    port = free_port()
    first = ServerProcess("files", "http.server", [str(port), "--bind", "127.0.0.1"])
    try:
        wait_for(f"http://127.0.0.1:{port}", first)
        second = ServerProcess("files", "http.server", [str(port), "--bind", "127.0.0.1"])
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(
            TransientError, match=r"(?s)exit code 1; its output is in .*files\.log.*Address already in use"
        ):
            wait_for(url, second)
    finally:
        first.stop()


def test_a_server_that_does_not_answer_is_named_with_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_API_TIMEOUT", "0.5")
    reload_settings()
    server = ServerProcess("files", "http.server", ["0", "--bind", "127.0.0.1"])
    try:
        with pytest.raises(TransientError, match=r"in 0\.5 s; its output is in .*files\.log"):
            wait_for(f"http://127.0.0.1:{free_port()}", server)
    finally:
        server.stop()


def test_a_long_log_is_put_aside(home: Path) -> None:
    log = log_folder() / "files.log"
    log.touch()
    os.truncate(log, 11_000_000)
    ServerProcess("files", "http.server", ["0"]).stop()
    assert log.stat().st_size < 1_000_000
    assert log.with_suffix(".log.1").stat().st_size == 11_000_000


def test_a_log_that_grows_too_long_begins_anew_while_its_server_writes(home: Path) -> None:
    server = ServerProcess(
        "writer", "http.server", ["0", "--bind", "127.0.0.1"], {**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        said = wait_until(lambda: re.search(r"port (\d+)", server.log.read_text()))
        server.bound_log(limit=5)
        assert "Serving HTTP" in (log_folder() / "writer.log.1").read_text()
        assert server.log.stat().st_size == 0
        urllib.request.urlopen(f"http://127.0.0.1:{said[1]}/", timeout=60).close()
        wait_until(lambda: server.log.stat().st_size)
        assert server.log.read_bytes()[:1] != b"\0"
        assert "GET /" in server.last_output()
    finally:
        server.stop()
    assert stat.S_IMODE((log_folder() / "writer.log.1").stat().st_mode) == 0o600


def test_prefects_api_refuses_a_port_that_is_taken(migrated_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(migrated_home / "prefect"))
    monkeypatch.setenv("STILLROOM_API_TIMEOUT", "60")
    reload_settings()
    files = ServerProcess("files", "http.server", [str(port := free_port()), "--bind", "127.0.0.1"])
    try:
        wait_for(f"http://127.0.0.1:{port}", files)
        server = start_api(port)
        # A slow machine may see Prefect hang in its shutdown, when that comes before all of its services have begun.
        with pytest.raises(TransientError, match=r"(?s)prefect\.log and ends with:.*address already in use"):
            wait_for(f"http://127.0.0.1:{port}/api/health", server)
        server.stop()
    finally:
        files.stop()
