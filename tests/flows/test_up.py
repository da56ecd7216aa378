"""`stillroom up` with a worker and a deployed spec: one page, what dies comes back, a killed one leaves nothing."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect

from infra.compute.certificates import create
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import TransientError
from infra.servers.prefect_api import free_port
from tests.line import WITHOUT_CLUSTER, Place
from tests.prefect_client import Api, wait_until

WORKER = "worker-stillroom-cpu"


class Up:
    """A running `stillroom up`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.prefect, self.mlflow, self.page, self.dask, self.dask_page = (
            f"http://127.0.0.1:{free_port()}" for _ in range(5)
        )
        ports = {"prefect": self.prefect, "mlflow": self.mlflow, "page": self.page}
        ports |= {"dask": self.dask, "dask-page": self.dask_page}
        options = [part for name, url in ports.items() for part in (f"--{name}-port", url.rpartition(":")[2])]
        # The poll comes at once, and then not for a day.
        times = ["--cron", "", "--verify-cron", "", "--poll-minutes", "1440"]
        self.process = place.start("up", "small.yaml", "--workers", "1", *times, *options)
        place.wait_until(self.process, lambda p: f"Page     {self.page}" in (p.root / "log").read_text())

    @property
    def api(self) -> Api:
        return Api(f"{self.prefect}/api", (self.place.root / "home" / "prefect-auth").read_text())

    def services(self) -> dict[str, dict[str, Any]]:
        with urllib.request.urlopen(f"{self.page}/services", timeout=60) as answer:
            return {one["name"]: one for one in json.load(answer)}

    def dask_workers(self) -> list[dict[str, Any]]:
        """What the scheduler's page says of each; none while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.dask_page}/figures", timeout=60) as answer:
                return list(json.load(answer)["workers"])
        except OSError:
            return []

    def artifact(self, run: dict[str, Any], key: str) -> str:
        """The Markdown of an artifact of a flow run."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": [key]}}}
        (found,) = self.api.post("/artifacts/filter", wanted)
        return str(found["data"])

    def process_of(self, word: str) -> psutil.Process:
        (found,) = [
            child for child in psutil.Process(self.process.pid).children() if any(word in a for a in child.cmdline())
        ]
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("up"), text=WITHOUT_CLUSTER)


@pytest.fixture(scope="module")
def up(place: Place) -> Iterator[Up]:
    running = Up(place)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_one_page_links_to_every_service(up: Up) -> None:
    found = up.services()
    assert list(found) == ["prefect", "mlflow", "dask scheduler", "dask workers", "worker stillroom-cpu"]
    assert {one["state"] for one in found.values()} == {"running"}
    with urllib.request.urlopen(up.page, timeout=60) as answer:
        text = answer.read().decode()
    assert f'href="{up.prefect}"' in text
    assert f'href="{up.mlflow}"' in text
    assert f'href="{up.dask_page}"' in text
    assert "1 of 1 there, 0 tasks running" in text
    with urllib.request.urlopen(f"{up.mlflow}/health", timeout=60) as answer:
        assert answer.read() == b"OK"


def test_a_page_of_another_name_is_refused(up: Up) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(up.page, headers={"host": "evil.example"}), timeout=60)


def test_every_service_writes_a_log(up: Up) -> None:
    logs = {path.name for path in (up.place.root / "home" / "logs").iterdir()}
    assert logs == {f"{name}.log" for name in ("prefect", "mlflow", "dask-scheduler", "dask-workers", WORKER)}


def test_the_status_tells_services_runs_and_what_comes_next(up: Up) -> None:
    name = up.api.get("/deployments/name/ingest/small")["id"]
    wanted = {"deployments": {"id": {"any_": [name]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    if not up.api.post("/flow_runs/filter", wanted):
        up.api.post(f"/deployments/{name}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    wait_until(lambda: up.api.post("/flow_runs/filter", wanted), 300)
    found = up.place.json("status")
    assert {one["name"] for one in found["services"]} == set(up.services())
    assert ("ingest", "Completed") in {(run["flow"], run["state"]) for run in found["runs"]}
    rows = {row["name"]: row for row in found["deployments"]}
    assert list(rows) == ["ingest/small", "promote/small", "retrain/small", "verify/small"]
    assert rows["ingest/small"]["next"]
    assert rows["retrain/small"]["next"] is None
    assert rows["ingest/small"]["bytes"] == sum(len(data) for data in up.place.files("").values())
    assert found["champions"] == []


def test_a_run_is_started_from_the_form(up: Up, page: Page) -> None:
    deployment = up.api.get("/deployments/name/retrain/small")["id"]
    token = b64encode(up.api.auth.encode()).decode()
    page.add_init_script(f"localStorage.setItem('prefect-password', '{token}')")
    page.goto(f"{up.prefect}/v2/deployments/deployment/{deployment}/run")
    for said in ("Path of a spec file", "Keys of the spec that have other values", "The last stage to run."):
        expect(page.get_by_text(said)).to_be_visible(timeout=60_000)
    page.locator("button", has_text="register").click()
    page.get_by_role("option", name="ingest", exact=True).click()
    page.get_by_role("button", name="Submit", exact=True).click()
    wanted = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    (run,) = wait_until(lambda: up.api.post("/flow_runs/filter", wanted), 300)
    assert (run["parameters"]["spec"], run["parameters"]["upto"]) == (str(up.place.spec), "ingest")
    links = up.artifact(run, "links-small")
    assert f"[{up.dask_page}]({up.dask_page})" in links
    shards = up.api.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["shards-phantom-fundus"]}}})
    assert json.loads(shards[0]["data"])[0]["split"] in ("train", "val", "test")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("mlflow", "mlflow_server"),
        ("prefect", "prefect.server.api"),
        ("dask scheduler", "distributed.cli.dask_scheduler"),
        ("dask workers", "infra.compute.kept_workers"),
    ],
)
def test_a_service_that_dies_comes_back_with_its_data(up: Up, name: str, word: str) -> None:
    before = up.services()[name]["restarts"]
    up.process_of(word).kill()
    wait_until(lambda: up.services()[name]["restarts"] == before + 1 and up.services()[name]["state"] == "running")
    assert up.api.get("/deployments/name/retrain/small")["parameters"] == {"spec": str(up.place.spec)}


def test_a_dask_worker_that_dies_comes_back(up: Up) -> None:
    wait_until(up.dask_workers)
    (worker,) = [
        child
        for child in up.process_of("infra.compute.kept_workers").children()
        if "spawn_main" in str(child.cmdline())
    ]
    worker.kill()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: up.services()["dask workers"]["says"] == "1 of 1 there, 0 tasks running")


def test_the_scheduler_shows_no_pages_to_other_names(up: Up) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(up.dask_page, headers={"host": "evil.example"}), timeout=60)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{up.dask_page}/status", timeout=60)


def test_only_who_has_the_key_may_use_the_workers(up: Up, tmp_path: Path) -> None:
    address = up.dask.replace("http://", "tls://")
    ours = ClusterSection(kind="address", address=address, tls=str(up.place.root / "home" / "dask-up"), wait=60)
    wait_until(up.dask_workers)
    with Cluster(ours) as cluster:
        assert cluster.client.submit(sum, [1, 2]).result(timeout=60) == 3
    create(tmp_path / "tls")
    with (
        Cluster(ours.model_copy(update={"tls": str(tmp_path / "tls"), "wait": 3.0})) as cluster,
        pytest.raises(TransientError, match="knows the certificates"),
    ):
        assert cluster.client


def test_a_killed_one_leaves_no_process(up: Up) -> None:
    up.process.send_signal(signal.SIGKILL)
    up.process.wait()
    assert psutil.wait_procs(up.place.processes(), timeout=30)[1] == []


def test_down_ends_all_and_the_next_one_finds_the_data(up: Up, place: Place) -> None:
    again = Up(place)
    assert again.api.get("/deployments/name/retrain/small")["id"]
    assert "asked process" in place.run("down").stdout
    assert again.process.wait(90) == 0
    assert psutil.wait_procs(place.processes(), timeout=30)[1] == []
    assert not (place.root / "home" / "services.json").exists()
