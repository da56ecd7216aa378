"""Running the command `stillroom` as a person does, on a small phantom corpus.

What costs time, in seconds of a core: a whole retrain of `SPEC` 30 to 40, of them each Dask worker 4 to 8, the export
8, Prefect's API 7. So a test shares a module's place and its runs, gives the place an API that runs already (the
fixture `prefect_server`, or `tests.databases.shared_api` over the place's own home), ends its run with the stage that
it is about (`--upto`), and asks for `TWO_WORKERS` only where several processes are its subject.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.databases import AUTH, copy_databases

SPEC = """
name: small
store: store
corpus:
  adapter: phantom-fundus
  root: corpus
  phantom: {size: 64, labelled: 48, unlabelled: 32, val: 24, test: 24, seed: 5}
ingest: {shard_size: 16}
views: {size: 48, count: 2}
teachers:
  - {name: big, model: micro_m, train: {steps: 24, batch: 16, lr: 0.005, checkpoint_every: 4}}
student:
  model: micro_xs
  train: {steps: 60, batch: 16, lr: 0.005, checkpoint_every: 4}
  seeds: [0]
evaluate: {bootstrap: 50}
gate: {enabled: false}
register: {promote: automatic}
run: {device: cpu, cluster: {workers: 1}}
"""

WITHOUT_CLUSTER = SPEC.replace(", cluster: {workers: 1}", "")
"""Runs of it take the workers that `stillroom up` keeps, where it runs."""

TWO_WORKERS = ("--set", "run.cluster.workers=2")
"""For a command whose test is about several worker processes; each takes 4 to 8 s of a core to start and to import."""


@dataclass
class Place:
    """A folder with a spec, its store and a home of its own, and a mark on every process started here."""

    root: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    text: str = SPEC
    api: str | None = None  # a Prefect API that commands use; None: each starts its own

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(self.text)
        copy_databases(self.root / "home")

    @property
    def spec(self) -> Path:
        return self.root / "small.yaml"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "STILLROOM_"))}
        return {
            **clean,
            **({"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": AUTH} if self.api else {}),
            "STILLROOM_HOME": str(self.root / "home"),
            "STILLROOM_TEST_MARK": self.mark,
            "PYTHONWARNINGS": "default",
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`stillroom ...` in the background, output to a file."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        with (self.root / "log").open("ab") as log:
            return subprocess.Popen(command, env=self.environment, cwd=self.root, stdout=log, stderr=log)

    def wait_until(self, process: subprocess.Popen[bytes], begun: Callable[[Place], bool]) -> None:
        """Return when `begun`; fails when the process ends before."""
        while not begun(self):
            try:
                code = process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"the process ended with {code} too early: {(self.root / 'log').read_text()[-3000:]}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`stillroom ...` to its end."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=600, check=False
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """`stillroom ... --json`, which must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr[-4000:]
        return dict(json.loads(done.stdout))

    def processes(self) -> list[psutil.Process]:
        """Every living process that carries this place's mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("STILLROOM_TEST_MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def files(self, folder: str) -> dict[str, bytes]:
        """Name to bytes of everything below a folder of the store."""
        return {
            path.relative_to(self.store).as_posix(): path.read_bytes()
            for path in sorted((self.store / folder).rglob("*"))
            if path.is_file()
        }


def states(outcome: dict[str, Any]) -> dict[str, str]:
    """Stage to the name of its Prefect state."""
    return {stage["stage"]: stage["state"] for stage in outcome["stages"]}


def digests(outcome: dict[str, Any]) -> dict[str, str]:
    """Stage to the digest of its manifest."""
    return {stage["stage"]: stage["digest"] for stage in outcome["stages"]}
