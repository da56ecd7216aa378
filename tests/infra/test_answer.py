"""Servers of others: their addresses as they are shown, and why one does not answer, in seconds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.errors import TransientError, UsageError
from infra.servers.address import checked_http, is_loopback, shown, spare_loopback, without_userinfo
from infra.servers.answer import answer
from infra.servers.prefect_api import free_port

HOST = "http://127.0.0.1"


class _Coded(BaseHTTPRequestHandler):
    """Answers /CODE with that status; everything else with 200."""

    def do_GET(self) -> None:
        code = int(self.path[1:]) if self.path[1:].isdigit() else 200
        self.send_response(code)
        if 300 <= code < 400:
            self.send_header("location", "https://user:secret@elsewhere/login")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that answers with the status it is asked for; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Coded) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"{HOST}:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (401, UsageError, r"wants to know who asks.*\(HTTP 401\)"),
        (403, UsageError, r"forbids it \(HTTP 403\)"),
        (404, UsageError, r"does not know what it is asked \(HTTP 404\).*another server"),
        (307, UsageError, r"redirects to https://elsewhere/login \(HTTP 307\)"),
        (503, TransientError, r"fails \(HTTP 503\)"),
    ],
)
def test_a_refusal_names_address_and_cause(server: str, code: int, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=rf"^the server at {server}/{code} {said}"):
        answer(f"{server}/{code}", "the server")


def test_a_dead_address_is_named(server: str) -> None:
    url = f"{HOST}:{free_port()}"
    with pytest.raises(TransientError, match=rf"^it at {url} cannot be reached: nobody listens there"):
        answer(url, "it")


def test_a_server_that_is_silent_costs_seconds(server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TransientError, match=r"no answer in 0\.2 s"):
        answer(f"{HOST}:{silent.getsockname()[1]}", "it", seconds=0.2)


def test_loopback_is_asked_without_the_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"{HOST}:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    assert answer(server, "it") == b"ok"


def test_a_proxy_that_fails_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(TransientError, match=rf"through the proxy http://{proxy} \(set no_proxy") as raised:
        answer("http://mlflow.example", "it")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://me:secret@host:5000/api", "http://host:5000/api"),
        ("http://me:sec/ret@host:5000/api", "http://host:5000/api"),
        ("postgresql://me:se?cret@host/db", "postgresql://host/db"),
        ("postgresql://host/db?password=secret", "postgresql://host/db?..."),
        ("sqlite:////a/mlflow.db", "sqlite:////a/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_passwords(url: str, plain: str) -> None:
    assert shown(url) == plain


def test_user_and_password_are_taken_out_and_decoded() -> None:
    assert without_userinfo("https://me:a%40b@host/x") == ("https://host/x", "me:a@b")


@pytest.mark.parametrize("url", ["host:4200/api", "ftp://host", "http://", "http://host:port/api", "http://ho st/api"])
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match=r"VARIABLE.*like http://HOST"):
        checked_http(url, "VARIABLE", "http://HOST")


def test_what_the_user_spares_stays_spared() -> None:
    env = {"NO_PROXY": "intranet.example"}
    spare_loopback(env)
    assert env["no_proxy"] == env["NO_PROXY"] == "intranet.example,localhost,127.0.0.1,::1"


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)])
def test_what_only_this_machine_reaches(host: str, own: bool) -> None:
    assert is_loopback(host) is own
