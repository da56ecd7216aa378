"""Dask's scheduler and workers of `stillroom up`: on loopback, with TLS and a key that is drawn at every start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from infra.compute.certificates import renew
from infra.compute.cluster import cores
from infra.compute.cluster_spec import FIGURES, PAGE, ClusterSection, as_environment, dask_config, named_tls
from infra.lifeline import child_environment
from infra.servers.address import origin_of
from infra.servers.server_process import ServerProcess
from infra.servers.services import SERVER_AUTH
from infra.servers.supervisor import Service
from infra.settings import home_folder

DAYS = 3650
"""That the key is valid: it never leaves the machine, and the services may run for years."""

WORKER_SECONDS = 20.0
"""For workers to leave the state of their trainings behind, before they are killed."""

_NVIDIA = "nvidia[0-9]*"
_COUNT = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
_NOT_THEIRS = ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", SERVER_AUTH)


@dataclass(frozen=True)
class OwnDask:
    """Scheduler and workers.

    Attributes:
        port, page_port: of the scheduler, and of its page.
        workers: processes; None: one a GPU, else one a core.
        threads: tasks that each runs at once; None: its share of the cores with GPUs, else one.
        memory: that a worker may use, as `run.cluster.memory_limit`.
    """

    host: str
    port: int = 8786
    page_port: int = 8787
    workers: int | None = None
    threads: int | None = None
    memory: str = "auto"

    @property
    def address(self) -> str:
        """Where clients and workers find the scheduler."""
        return origin_of(self.host, self.port).replace("http://", "tls://")

    @property
    def page(self) -> str:
        """The page of the work."""
        return origin_of(self.host, self.page_port)

    @property
    def ports(self) -> dict[str, int]:
        """Ports by the options that name them."""
        return {"dask": self.port, "dask-page": self.page_port}

    @property
    def environment(self) -> dict[str, str]:
        """By which runs whose spec names no cluster find this one."""
        return {"STILLROOM_DASK": self.address, "STILLROOM_DASK_TLS": str(_folder()), "STILLROOM_DASK_PAGE": self.page}

    def services(self) -> list[Service]:
        """The two services, in the order in which they start; draws a new key."""
        gpus = count_gpus()
        workers = self.workers or gpus or cores()
        threads = self.threads or (max(1, cores() // workers) if gpus else 1)
        renew(_folder(), DAYS)
        env = self._environment()
        command = [self.address, str(workers), str(threads), str(min(gpus, workers)), self.memory, str(_scratch())]
        return [
            Service("dask scheduler", lambda: self._scheduler(env), self.page, f"{self.page}/health"),
            Service(
                "dask workers",
                lambda: ServerProcess(
                    "dask-workers", "infra.compute.kept_workers", command, env, stop_seconds=WORKER_SECONDS
                ),
                says=lambda: self.says(workers),
            ),
        ]

    def says(self, wanted: int) -> str:
        """How many workers there are and what they do; asks the scheduler."""
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"{self.page}{FIGURES}", timeout=3) as answer:
                found = json.load(answer)["workers"]
        except (OSError, ValueError, KeyError):
            return "the scheduler does not answer"
        return f"{len(found)} of {wanted} there, {sum(one['running'] for one in found)} tasks running"

    def _environment(self) -> dict[str, str]:
        config = {
            **dask_config(ClusterSection()),
            **named_tls(_folder()),
            "distributed.scheduler.http.routes": ["distributed.http.health", PAGE],
            # A line for every task that comes and goes would fill the log.
            "logging.distributed": "warning",
        }
        mine = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
        return {**mine, **as_environment(config)}

    def _scheduler(self, env: dict[str, str]) -> ServerProcess:
        args = ["--host", self.host, "--port", str(self.port), "--protocol", "tls"]
        args += ["--no-dashboard", "--dashboard-address", f"{self.host}:{self.page_port}"]
        return ServerProcess("dask-scheduler", "distributed.cli.dask_scheduler", args, env)


def _folder() -> Path:
    return home_folder("dask-up")


def _scratch() -> Path:
    return home_folder("dask-scratch")


def count_gpus() -> int:
    """GPUs that torch can use here; asked in a process of its own, because torch takes hundreds of megabytes."""
    if not any(Path("/dev").glob(_NVIDIA)):
        return 0
    asked = [sys.executable, "-P", "-c", _COUNT]
    done = subprocess.run(asked, env=child_environment(), capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 0
