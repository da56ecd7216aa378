"""A proxy between client and S3 server that breaks chosen requests."""

from __future__ import annotations

import fnmatch
import http.client
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Fault = str | Callable[[], None]


@dataclass(frozen=True)
class Request:
    """A request that the proxy has seen."""

    method: str
    key: str  # without the bucket; empty for a listing
    query: str


@dataclass
class _Rule:
    fault: Fault
    method: str
    key: str
    query: str
    skip: int
    times: int

    def applies(self, request: Request) -> bool:
        fits = request.method == self.method and fnmatch.fnmatchcase(request.key, self.key)
        if not fits or self.query not in request.query or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


_ANSWERS = {
    "400": (400, "BadDigest"),
    "403": (403, "AccessDenied"),
    "429": (429, "TooManyRequests"),
    "500": (500, "InternalError"),
    "501": (501, "NotImplemented"),
    "502": (502, "BadGateway"),
    "503": (503, "SlowDown"),
}
_BREAKS = {"reset", "stall", "short", "wrong", "lost", "unchecked"}
_CHECKS = {"content-md5", "x-amz-content-sha256"}


class FaultProxy:
    """Passes requests on to `upstream` and breaks those that a rule names; `requests` has all that came."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.requests: list[Request] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self.over = threading.Event()
        self.conditional = False  # keep `If-None-Match: *`, which rclone passes over, for keys created through here
        self.authorization = ""  # the header without which every request is answered 401; "": nobody is asked
        self.creating = threading.Lock()
        self.created: set[str] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def fail(
        self, fault: Fault, method: str = "GET", key: str = "*", times: int = 1, *, query: str = "", skip: int = 0
    ) -> None:
        """Break the next requests that fit.

        Args:
            fault: a status (400, 403, 429, 500, 502, 503) that is answered without asking the server;
                "reset": the connection breaks before an answer; "lost": the server acts, its answer is lost;
                "stall": half an answer (of a PUT: none), then silence; "short": half an answer (of a PUT: half
                the body reaches the server), then the end; "wrong": a byte of the body is another, in an
                answer, or of a PUT on its way to the server; "unchecked": the same for a PUT, without the
                digests by which the server could notice (of use before a server without keys alone).
                A function is called when the server has acted, before its answer is passed on.
            method: GET, HEAD, PUT, POST, PATCH or DELETE.
            key: a shell pattern for the key below the bucket; a listing's key is empty.
            times: how many requests; -1 for all.
            query: text that the query must hold, such as `partNumber=2` or `list-type`.
            skip: how many fitting requests pass before.
        """
        assert callable(fault) or fault in _BREAKS or fault in _ANSWERS, fault
        self._rules.append(_Rule(fault, method, key, query, skip, times))

    def clear(self) -> None:
        """Forget all rules and requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()
            self.conditional = False
            self.authorization = ""
            self.created.clear()

    @property
    def waiting(self) -> list[str]:
        """Keys of rules that no request has used up."""
        with self._lock:
            return [rule.key for rule in self._rules if rule.times > 0]

    def count(self, method: str, key: str = "*") -> int:
        """How many requests of that kind came."""
        return sum(r.method == method and fnmatch.fnmatchcase(r.key, key) for r in self.requests)

    def judge(self, method: str, target: str) -> Fault:
        """Note a request; the fault that it gets, or an empty text."""
        parts = urlsplit(target)
        request = Request(method, unquote(parts.path.lstrip("/").partition("/")[2]), parts.query)
        with self._lock:
            self.requests.append(request)
            return next((rule.fault for rule in self._rules if rule.applies(request)), "")

    def close(self) -> None:
        """End it, and every answer that stalls."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: FaultProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        fault = proxy.judge(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if proxy.authorization and self.headers.get("authorization") != proxy.authorization:
            return self._answer(401, {"Content-Type": "text/plain"}, b"You are not authenticated")
        if isinstance(fault, str) and fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
            return self._answer(status, {"Content-Type": "application/xml"}, text)
        upload = bool(body)
        if fault == "reset":
            return self._reset()
        if fault == "short" and upload:
            self._half(body)
            return self._reset()
        if fault == "stall" and upload:
            self.server.proxy.over.wait(60)
            return self._reset()
        if upload and fault in ("wrong", "unchecked"):
            body = _flipped(body)
        if proxy.conditional and self.command == "PUT" and self.headers.get("If-None-Match") is not None:
            with proxy.creating:
                if self.path in proxy.created:
                    text = b"<?xml version='1.0'?><Error><Code>PreconditionFailed</Code></Error>"
                    return self._answer(412, {"Content-Type": "application/xml"}, text)
                status, headers, data = self._ask(body, set())
                proxy.created.add(self.path)
        else:
            status, headers, data = self._ask(body, _CHECKS if fault == "unchecked" else set())
            if self.command == "PUT":
                proxy.created.add(self.path)
        if callable(fault):
            fault()
        if fault == "lost":
            return self._reset()
        if fault == "wrong" and not upload and data:
            data = _flipped(data)
        if fault in ("short", "stall"):
            return self._break(status, headers, data, stall=fault == "stall")
        return self._answer(status, headers, data)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _headers(self, without: set[str]) -> dict[str, str]:
        without = without | {"connection", "expect"}
        return {name: value for name, value in self.headers.items() if name.lower() not in without}

    def _ask(self, body: bytes, without: set[str]) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, body=body or None, headers=self._headers(without))
            reply = upstream.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            upstream.close()

    def _half(self, body: bytes) -> None:
        host, _, port = self.server.proxy.upstream.partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as upstream:
            lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in self._headers(set()).items())]
            upstream.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])

    def _start(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        sized = {name.lower(): value for name, value in headers.items()}.get("content-length")
        self.send_header("Content-Length", sized if self.command == "HEAD" and sized else str(length))
        self.end_headers()

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self._start(status, headers, len(data))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _break(self, status: int, headers: dict[str, str], data: bytes, *, stall: bool) -> None:
        self._start(status, headers, len(data))
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        if stall:
            self.server.proxy.over.wait(60)
        self.close_connection = True

    def _reset(self) -> None:
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
