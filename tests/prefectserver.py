"""A real Prefect API that tests kill and start again on its port."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from infra.servers.prefect_api import free_port, start_api
from infra.servers.server_process import ServerProcess, wait_for
from tests.databases import AUTH, migrated_settings


class PrefectServer:
    """A Prefect API on one port, which comes and goes."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def start(self) -> None:
        with migrated_settings(self.home), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_SERVER_API_AUTH_STRING", AUTH)
            patch.setenv("PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION", "30")
            self.process = start_api(self.port)
            wait_for(f"{self.url}/health", self.process)

    def kill(self) -> None:
        assert self.process is not None
        psutil.Process(self.process.pid).kill()
        self.process.stop()

    def lease_ends(self) -> datetime:
        """When the one lease would end, if nobody renewed it."""
        folder = self.home / "prefect" / "concurrency_leases"
        (lease,) = [path for path in folder.glob("*.json") if path.name != "expirations.json"]
        return datetime.fromisoformat(json.loads(lease.read_text())["expiration"])
