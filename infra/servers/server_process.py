"""A server that runs as a child of this process: its log file, its start, how it ended.

The child dies with this process (`infra.lifeline`). What it prints goes to `STILLROOM_HOME/logs/NAME.log`; errors
name that file and quote its last lines.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from infra.errors import TransientError
from infra.lifeline import start_tied
from infra.private_files import private_file
from infra.settings import home_folder, settings

LOG_LIMIT = 10_000_000
"""Bytes of a log; what is longer becomes NAME.log.1, in place of the one before."""

_QUOTED = 2000  # bytes of a log's end that an error quotes
_PRIVATE = 0o077  # databases and what else servers write are for this user alone
STOP_SECONDS = 10.0


def log_folder() -> Path:
    """Where the output of servers goes; made when missing."""
    return home_folder("logs")


class ServerProcess:
    """`python -m module args` in the background.

    Args:
        name: of the server and of its log file.
        env: its environment; default that of this process.
        stop_seconds: for it to end after SIGTERM, before SIGKILL.
    """

    def __init__(
        self,
        name: str,
        module: str,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._stop_seconds = stop_seconds
        self.name, self.log = name, log_folder() / f"{name}.log"
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        private_file(self.log)
        with self.log.open("ab") as output:
            self._start = output.tell()
            self._process: subprocess.Popen[bytes] = start_tied(module, args, env, output, umask=_PRIVATE)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def check(self, seconds: float = 0.0) -> None:
        """TransientError when the server has ended by itself.

        Args:
            seconds: to wait for its end; a killed process answers nothing some time before its last thread is gone.
        """
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(seconds)
            raise TransientError(f"the {self.name} server ended with exit code {code}; {self.last_output()}")

    def last_output(self) -> str:
        """The log file and its last lines, for the text of an error."""
        with self.log.open("rb") as file:
            file.seek(max(self._start, file.seek(0, 2) - _QUOTED))
            text = file.read().decode(errors="replace").strip()
        return f"its output is in {self.log}" + (f" and ends with:\n{text}" if text else ", which is empty")

    def bound_log(self, limit: int = LOG_LIMIT) -> None:
        """Begin the log anew where it is too long; the server goes on writing to the same file.

        What it writes between copy and cut, within a millisecond, is in neither.
        """
        if self.log.stat().st_size <= limit:
            return
        older = self.log.with_suffix(".log.1")
        private_file(older)
        shutil.copyfile(self.log, older)
        # The server appends, so that its next line is the first again.
        os.truncate(self.log, 0)
        self._start = 0

    def stop(self) -> None:
        """Ask the server to end, and kill it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the processes that it started too
            self._process.wait()


def wait_for(url: str, server: ServerProcess | None = None) -> None:
    """Return when the URL answers; a server on this machine, so that no proxy is asked.

    Args:
        server: the child that should answer there; None for one that was started elsewhere.

    Raises:
        TransientError: no answer in `STILLROOM_API_TIMEOUT` seconds, or the child ended.
    """
    deadline = time.monotonic() + settings().api_timeout
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if server is not None:
            server.check()
        try:
            with direct.open(url, timeout=5):
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    detail = f"; {server.last_output()}" if server is not None else ""
    raise TransientError(f"no answer from {url} in {settings().api_timeout:g} s{detail}")
