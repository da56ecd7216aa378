"""S3, MLflow and Prefect are gone in the middle of a run: it waits, and makes nothing a second time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.line import line
from infra.digest import sha256_bytes
from infra.storage.s3_cache import digest_in
from infra.storage.store import open_store
from tasks.maintenance.verify import verify
from tasks.spec import load_spec
from tests.databases import AUTH
from tests.flows.long_run import training
from tests.line import SPEC, Place
from tests.mlflowserver import MlflowServer
from tests.prefect_client import Api, wait_until
from tests.prefectserver import PrefectServer
from tests.s3server import S3Server

PAUSE = "0.5"  # the longest before an attempt
OUTAGE = 8.0  # seconds: longer than all attempts of a request with all their pauses


@dataclass
class Site(Place):
    """A line whose store lies in S3, and whose students go to an MLflow server that keeps its files there too."""

    s3: S3Server | None = None
    bucket: str = ""
    mlflow: MlflowServer | None = None
    prefect: PrefectServer | None = None

    @property
    def store(self) -> Path:
        """The objects of the store as the S3 server keeps them."""
        assert self.s3 is not None
        return self.s3.file(self.bucket, "store")

    @property
    def environment(self) -> dict[str, str]:
        assert self.mlflow is not None
        return {
            **super().environment,
            "STILLROOM_S3_BACKOFF_CAP": PAUSE,
            "STILLROOM_MLFLOW_URI": self.mlflow.url,
            "STILLROOM_CACHE": str(self.root / "cache"),
        }

    def s3_gone(self) -> None:
        """Nobody listens for a while."""
        assert self.s3 is not None
        self.s3.close()
        threading.Event().wait(OUTAGE)
        self.s3 = S3Server(self.s3.folder, port=self.s3.port)

    def mlflow_gone(self) -> None:
        """Killed, and started again."""
        assert self.mlflow is not None
        self.mlflow.kill()
        self.mlflow.start()

    def prefect_gone(self) -> None:
        """Killed in the middle of a stage, and started again some time after its end."""
        assert self.prefect is not None
        self.prefect.kill()
        wait_until(lambda: any(_files(self.store / "models")))
        threading.Event().wait(OUTAGE)
        self.prefect.start()

    def done(self) -> dict[Path, int]:
        """What is never written again: records of units, manifests, and all that is named by its bytes."""
        folders = ("units", "manifests", "shards", "labels", "models")
        return {path: path.stat().st_mtime_ns for one in folders for path in _files(self.store / one)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    s3 = S3Server(tmp_path / "s3")
    bucket = s3.bucket()
    prefect = PrefectServer(tmp_path / "server")
    prefect.start()
    env = {"MLFLOW_S3_ENDPOINT_URL": s3.endpoint}
    mlflow = MlflowServer(tmp_path / "mlflow", f"s3://{s3.bucket()}/mlflow", env=env).start()
    text = SPEC.replace("store: store", f"store: {s3.url(bucket, 'store')}")
    made = Site(tmp_path / "line", text=text, api=prefect.url, s3=s3, bucket=bucket, mlflow=mlflow, prefect=prefect)
    yield made
    prefect.kill()
    mlflow.kill()
    assert made.s3 is not None
    made.s3.close()


def ingested(place: Place) -> bool:
    return any((place.store / "units/ingest").rglob("*.json"))


def labelled(place: Place) -> bool:
    return any((place.store / "units/label").rglob("*.json"))


def student_trained(place: Place) -> bool:
    return len(list((place.store / "models").rglob("*.safetensors"))) >= 2


def test_a_run_goes_on_when_its_servers_come_back(site: Site) -> None:
    process = site.start("retrain", "small.yaml")
    outages: list[tuple[Callable[[Place], bool], Callable[[], None]]] = [
        (ingested, site.s3_gone),
        (training, site.prefect_gone),
        (labelled, site.s3_gone),
        (student_trained, site.mlflow_gone),
    ]
    done: dict[Path, int] = {}
    for begun, outage in outages:
        site.wait_until(process, begun)
        outage()
        done |= site.done()
    assert process.wait(600) == 0, (site.root / "log").read_text()[-4000:]
    assert {path: path.stat().st_mtime_ns for path in done} == done
    api = Api(site.api or "", AUTH)
    (run,) = api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["small"]}}, "limit": 1})
    tasks = api.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert {task["state"]["name"] for task in tasks} == {"Completed"}
    assert len(tasks) == len(line(load_spec(site.spec)).steps)
    assert site.s3 is not None
    assert verify(open_store(site.s3.url(site.bucket, "store"))).sound
    for path in (*_files(site.store / "shards"), *_files(site.store / "labels")):
        # An object that no manifest names is looked at by nobody else.
        assert sha256_bytes(path.read_bytes()).startswith(digest_in(path.name))
