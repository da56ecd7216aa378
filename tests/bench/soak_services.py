"""What the soak runs: a growing corpus, `stillroom up` with a worker, and the processes and files that it looks at."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import psutil

from infra.servers.prefect_api import free_port
from tests.prefect_client import Api

SPEC = """
name: soak
store: store
corpus: {adapter: folder, root: images, split: {val: 0.2, test: 0.2, near_duplicates: ignore}}
ingest: {shard_size: 64, size: 48}
views: {size: 48, count: 1}
teachers: [{name: t, model: micro_m, train: {steps: 4, batch: 8, checkpoint_every: 2}}]
student: {model: micro_xs, train: {steps: 4, batch: 8, checkpoint_every: 2}, seeds: [0]}
evaluate: {compare: false, baselines: false, bootstrap: 0}
gate: {enabled: false}
register: {promote: automatic}
retrain: {least_new: 8}
run: {device: cpu, cluster: {workers: 1}}
"""

SERVICES = {"prefect": "prefect.server.api", "mlflow": "mlflow_server", "worker": "pool_worker"}
"""Service to a word of its command line."""

CLASSES = ("round", "square")
READY_SECONDS = 240.0


class Soak:
    """A folder with corpus, store and home, and everything that runs there.

    Args:
        root: made when missing; what an earlier soak left there is used.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.mark = root.resolve(), uuid.uuid4().hex
        self.home, self.store = self.root / "home", self.root / "store"
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "soak.yaml").write_text(SPEC)
        self._ports = {name: free_port() for name in ("prefect", "mlflow", "page")}
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For all that is started: a home of its own, and a mark by which its processes are found."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "STILLROOM_"))}
        own = {"STILLROOM_HOME": str(self.home), "STILLROOM_SOAK_MARK": self.mark, "PREFECT_WORKER_QUERY_SECONDS": "2"}
        return {**clean, **own, "PYTHONPATH": str(Path(__file__).parents[2])}

    @property
    def api(self) -> Api:
        """Prefect's API."""
        return Api(f"http://127.0.0.1:{self._ports['prefect']}/api", (self.home / "prefect-auth").read_text())

    def images(self) -> int:
        """Images in the corpus."""
        return sum(1 for _ in (self.root / "images").rglob("*.png"))

    def arrive(self, count: int, chance: random.Random) -> None:
        """Draw images into the corpus, each moved to its place when it is whole."""
        for _ in range(count):
            name, number = chance.choice(CLASSES), chance.getrandbits(48)
            folder = self.root / "images" / name
            folder.mkdir(parents=True, exist_ok=True)
            new = self.root / "new.png"
            cv2.imwrite(str(new), picture(name, number))
            new.replace(folder / f"{number:012x}.png")

    def start(self) -> None:
        """`stillroom up`; returns when the page answers for every service."""
        times = ["--cron", "", "--verify-cron", "", "--poll-minutes", "0"]
        ports = [part for name, port in self._ports.items() for part in (f"--{name}-port", str(port))]
        log = self.root / "up.log"
        with log.open("ab") as output:
            before = output.tell()
            command = [sys.executable, "-m", "flows.cli", "up", "soak.yaml", *times, *ports]
            self._up = subprocess.Popen(command, env=self.environment, cwd=self.root, stdout=output, stderr=output)
        end = time.monotonic() + READY_SECONDS
        while b"(interrupt to stop)" not in log.read_bytes()[before:]:
            if self._up.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"`stillroom up` did not start: {log.read_text()[-3000:]}")
            time.sleep(0.5)

    def kill_up(self) -> None:
        """SIGKILL to `stillroom up`, and a new one once nothing of it is left."""
        assert self._up is not None
        self._up.kill()
        self._up.wait()
        psutil.wait_procs(self.processes(), timeout=30)
        self.start()

    def down(self) -> None:
        """End all; what is still there then is killed."""
        self.command("down")
        if self._up is not None:
            with suppress(subprocess.TimeoutExpired):
                self._up.wait(90)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`stillroom ...` to its end."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=600, check=False
        )

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started here."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            living = process.status() != psutil.STATUS_ZOMBIE
            return living and process.environ().get("STILLROOM_SOAK_MARK") == self.mark
        except psutil.Error:
            return False

    def services(self) -> dict[str, psutil.Process]:
        """`stillroom up` and the services that live now, by name."""
        assert self._up is not None
        found = {"up": psutil.Process(self._up.pid)}
        for child in found["up"].children():
            with suppress(psutil.Error):
                words = " ".join(child.cmdline())
                found |= {name: child for name, word in SERVICES.items() if word in words}
        return found

    def of_runs(self) -> list[psutil.Process]:
        """Processes that are no service."""
        known = {process.pid for process in self.services().values()}
        return [process for process in self.processes() if process.pid not in known]

    def engines(self) -> list[psutil.Process]:
        """The processes of runs themselves."""
        worker = self.services().get("worker")
        with suppress(psutil.Error):
            return worker.children() if worker is not None else []
        return []

    def figures(self) -> dict[str, float]:
        """Resident memory and sizes, in MB (10^6 bytes)."""
        found: dict[str, float] = {}
        for name, process in self.services().items():
            with suppress(psutil.Error):
                found[f"{name}_rss"] = process.memory_info().rss / 1e6
        found["prefect_db"] = _size(self.home / "prefect", "prefect.db*")
        found["mlflow_db"] = _size(self.home, "mlflow.db*")
        found["mlflow_files"] = _size(self.home / "mlartifacts", "**/*")
        found["store"] = _size(self.store, "**/*")
        found["logs"] = _size(self.home / "logs", "*")
        return {name: round(value, 2) for name, value in found.items()}


def picture(name: str, number: int) -> np.ndarray:
    """An image of one of the two classes: 64 px, 3 channels, uint8; equal numbers give equal images."""
    rng = np.random.default_rng([CLASSES.index(name), number])
    pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
    x, y = (int(value) for value in rng.integers(20, 44, 2))
    if name == "round":
        cv2.circle(pixels, (x, y), 14, (200, 180, 160), -1)
    else:
        cv2.rectangle(pixels, (x - 12, y - 12), (x + 12, y + 12), (160, 180, 200), -1)
    return pixels


def kill(process: psutil.Process) -> None:
    """SIGKILL; nothing happens to one that is gone."""
    with suppress(psutil.Error):
        process.send_signal(signal.SIGKILL)


def _size(folder: Path, pattern: str) -> float:
    return sum(_bytes(folder, pattern)) / 1e6


def _bytes(folder: Path, pattern: str) -> Iterator[int]:
    for path in folder.glob(pattern):
        with suppress(OSError):  # a file that went meanwhile
            if path.is_file():
                yield path.stat().st_size
