"""A real MLflow server for tests: over SQLite or PostgreSQL, its artifacts in a folder or through it in S3."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from infra.servers.mlflow_database import prepare
from infra.servers.prefect_api import free_port
from infra.servers.server_process import ServerProcess, wait_for

QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
"""Environment of a client that does not wait long for a server that is gone."""


class MlflowServer:
    """`mlflow server` on a port that stays the same when it is killed and started again.

    Args:
        folder: for its database and, without `artifacts`, its files.
        artifacts: address that its clients' artifacts go to, through the server.
        backend: address of its database; default a SQLite file.
        more: further arguments.
        env: further environment.
    """

    def __init__(
        self,
        folder: Path,
        artifacts: str = "",
        *,
        backend: str = "",
        more: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        backend = backend or f"sqlite:///{folder / 'served.db'}"
        prepare(backend)
        self._arguments = [
            *("server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", backend),
            *("--serve-artifacts", "--artifacts-destination", artifacts or str(folder / "files")),
            *("--uvicorn-opts", "--log-level warning"),
            *more,
        ]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._env = {**os.environ, **quiet, **(env or {})}
        self._process: ServerProcess | None = None

    def start(self) -> MlflowServer:
        """Return when it answers."""
        self._process = ServerProcess(f"mlflow-{self.port}", "mlflow", self._arguments, self._env)
        wait_for(f"{self.url}/health", self._process)
        return self

    def kill(self) -> None:
        """SIGKILL to it and all that it started; nothing listens afterwards."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            tree = [psutil.Process(self._process.pid)]
            tree += tree[0].children(recursive=True)
            for each in tree:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
            psutil.wait_procs(tree, timeout=30)
        self._process.stop()
        self._process = None
