"""SIGKILL at random moments of an ingest: of a worker, of the scheduler, of the flow.

`STILLROOM_KILLS` says how many moments to try (default one of each victim); the draws repeat.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from infra.compute.certificates import create
from infra.servers.prefect_api import free_port
from infra.storage.store import LocalStore
from tasks.maintenance.verify import verify
from tests.line import Place, digests

SPEC = """
name: killed
store: store
corpus:
  adapter: phantom-fundus
  root: {root}
  phantom: {{size: 96, labelled: 60, unlabelled: 60, val: 30, test: 30, seed: 9}}
ingest: {{shard_size: 6}}
teachers: [{{name: t, model: micro_m}}]
student: {{model: micro_xs}}
run: {{retries: 0, cluster: {cluster}}}
"""
SHARDS = 30
VICTIMS = ("worker", "scheduler", "flow")
KILLS = int(os.environ.get("STILLROOM_KILLS", "3"))


@dataclass
class Dask:
    """A scheduler and two workers, as somebody runs them beside the line."""

    place: Place
    port: int = field(default_factory=free_port)
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    @property
    def tls(self) -> Path:
        """The folder of its certificates."""
        return self.place.root / "dask-tls"

    def start(self) -> None:
        """Start whatever of it is not running."""
        if not self.tls.exists():
            create(self.tls)
        if not self._lives("scheduler"):
            options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
            self.parts["scheduler"] = self._run("dask_scheduler", *options)
        for name in ("worker", "other"):
            if not self._lives(name):
                options = ["--nthreads", "1", "--no-dashboard", "--death-timeout", "20", "--no-nanny"]
                self.parts[name] = self._run("dask_worker", self.address, *options)

    def _lives(self, name: str) -> bool:
        return name in self.parts and self.parts[name].poll() is None

    def _run(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
        command += ["--protocol", "tls", "--tls-ca-file", f"{self.tls}/ca.crt"]
        command += ["--tls-cert", f"{self.tls}/tls.crt", "--tls-key", f"{self.tls}/tls.key"]
        with (self.place.root / "dask.log").open("ab") as log:
            return subprocess.Popen(command, env=self.place.environment, cwd=self.place.root, stdout=log, stderr=log)

    def stop(self) -> None:
        for process in self.parts.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Path, str]:
    """The drawn corpus, and the digest of an undisturbed ingest."""
    root = tmp_path_factory.mktemp("undisturbed")
    place = Place(root, text=SPEC.format(root=root / "corpus", cluster="{workers: 1}"), api=prefect_server)
    return root / "corpus", digests(place.json("ingest", str(place.spec)))["ingest"]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """One for all moments; each starts again what the moment before it killed."""
    dask = Dask(Place(tmp_path_factory.mktemp("dask"), text="{}"))
    yield dask
    dask.stop()


@pytest.fixture
def dask(beside: Dask) -> Dask:
    """All of it runs."""
    beside.start()
    return beside


@pytest.fixture
def place(tmp_path: Path, dask: Dask, truth: tuple[Path, str], prefect_server: str) -> Place:
    """A store of its own for each moment."""
    cluster = f"{{kind: address, address: '{dask.address}', tls: {dask.tls}}}"
    return Place(tmp_path / "place", text=SPEC.format(root=truth[0], cluster=cluster), api=prefect_server)


def recorded(place: Place) -> int:
    return len(list((place.store / "units/ingest").glob("*.json")))


@pytest.mark.parametrize("moment", range(KILLS))
def test_the_same_manifest_comes_of_it(moment: int, place: Place, dask: Dask, truth: tuple[Path, str]) -> None:
    victim = VICTIMS[moment % len(VICTIMS)]
    after = random.Random(moment).randrange(SHARDS)
    flow = place.start("ingest", str(place.spec))
    place.wait_until(flow, lambda p: recorded(p) >= after and p.store.exists())
    (flow if victim == "flow" else dask.parts[victim]).kill()
    code = flow.wait(180)
    assert victim != "worker" or code == 0, (place.root / "log").read_text()[-3000:]
    dask.start()

    outcome = place.json("ingest", str(place.spec))

    assert digests(outcome)["ingest"] == truth[1]
    assert verify(LocalStore(place.store)).sound
    _, alive = psutil.wait_procs(place.processes(), timeout=30)
    assert alive == []
