"""Specs on a schedule: deployments on a real Prefect server, a schedule that fires, a worker that runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import AUTH
from tests.line import Place
from tests.prefect_client import Api, wait_until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    """A spec on a machine of its own."""
    return Place(tmp_path_factory.mktemp("scheduled"), api=prefect_server)


@pytest.fixture(scope="module")
def api(prefect_server: str) -> Api:
    return Api(prefect_server, AUTH)


@pytest.fixture(scope="module")
def deployed(scheduled: Place) -> dict[str, Any]:
    return scheduled.json("deploy", "small.yaml", "--timezone", "Europe/Berlin")


def test_a_spec_becomes_four_deployments_in_a_pool_that_is_made(deployed: dict[str, Any], api: Api) -> None:
    names = [one["name"] for one in deployed["deployments"]]
    assert names == ["retrain/small", "ingest/small", "verify/small", "promote/small"]
    assert api.get("/work_pools/stillroom-cpu")["type"] == "process"


def test_a_deployment_is_whole(scheduled: Place, deployed: dict[str, Any], api: Api) -> None:
    found = api.get("/deployments/name/retrain/small")
    assert found["entrypoint"] == "flows.retrain.retrain"
    assert found["pull_steps"] == []
    assert found["parameters"] == {"spec": str(scheduled.spec)}
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    (schedule,) = found["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 2 * * *", "Europe/Berlin")


def test_a_second_deployment_changes_the_first(scheduled: Place, deployed: dict[str, Any], api: Api) -> None:
    before = api.get("/deployments/name/retrain/small")["id"]
    again = scheduled.json("deploy", "small.yaml", "--cron", "", "--paused")
    assert [one["changed"] for one in again["deployments"]] == [True] * 4
    after = api.get("/deployments/name/retrain/small")
    assert (after["id"], after["schedules"], after["paused"]) == (before, [], True)
    ingest = api.get("/deployments/name/ingest/small")
    assert len(ingest["schedules"]) == 1
    automations = api.post("/automations/filter", {})
    # Other specs are deployed on this server, too.
    assert [one["name"] for one in automations if "small on new files" in one["name"]] == ["ingest small on new files"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small.yaml", "--cron", "whenever"], "--cron 'whenever'"),
        (["small.yaml", "--timezone", "Mars/Base"], "--timezone Mars/Base"),
        (["wrong.yaml"], "unknown key student.trian"),
        (["small.yaml", "other.yaml"], "have one name, small"),
    ],
)
def test_nothing_is_applied_of_what_is_wrong(scheduled: Place, api: Api, arguments: list[str], said: str) -> None:
    text = scheduled.spec.read_text()
    (scheduled.root / "wrong.yaml").write_text(text.replace("  train: {steps: 60", "  trian: {steps: 60"))
    (scheduled.root / "other.yaml").write_text(text)
    before = {one["id"]: one["updated"] for one in api.post("/deployments/filter", {})}
    done = scheduled.run("deploy", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert {one["id"]: one["updated"] for one in api.post("/deployments/filter", {})} == before


def test_a_spec_does_not_take_the_deployment_of_another_file(
    scheduled: Place, deployed: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(scheduled.text)
    done = scheduled.run("deploy", str(tmp_path / "small.yaml"))
    assert done.returncode == 2
    assert f"retrain/small is deployed already, of {scheduled.spec}" in done.stderr


@pytest.fixture
def worker(scheduled: Place) -> Iterator[subprocess.Popen[bytes]]:
    """Prefect's own worker, as a hospital starts it."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "stillroom-cpu"]
    env = {**scheduled.environment, "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(scheduled.root / "home")}
    with (scheduled.root / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=scheduled.root, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()


def ran(api: Api, name: str) -> list[dict[str, Any]]:
    """Runs of a deployment that have ended; those that were cancelled, because another one went on, are left out."""
    wanted = {"deployments": {"id": {"any_": [api.get(f"/deployments/name/{name}")["id"]]}}}
    runs = api.post("/flow_runs/filter", wanted)
    return [run for run in runs if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED")]


def test_a_schedule_fires_by_itself_and_brings_new_files(
    scheduled: Place, api: Api, worker: subprocess.Popen[bytes]
) -> None:
    scheduled.json("deploy", "small.yaml", "--cron", "", "--verify-cron", "", "--poll-minutes", "0.05")
    scheduled.wait_until(worker, lambda _: bool(ran(api, "ingest/small")))
    run = ran(api, "ingest/small")[0]
    assert run["state"]["name"] == "Completed", (scheduled.root / "worker.log").read_text()[-3000:]
    assert run["auto_scheduled"] is True
    assert list((scheduled.store / "shards").rglob("*.tar"))
    scheduled.json("deploy", "small.yaml", "--cron", "", "--verify-cron", "", "--poll-minutes", "0")
    known = {run["id"] for run in ran(api, "ingest/small")}
    # The door for scripts: an event starts the same run.
    emit = ["event", "emit", "stillroom.new-files", "--resource-id", "stillroom.spec.small"]
    prefect_command(scheduled, *emit)
    after = wait_until(lambda: [run for run in ran(api, "ingest/small") if run["id"] not in known])
    assert after[0]["state"]["name"] == "Completed"


def prefect_command(place: Place, *arguments: str, **env: str) -> str:
    """What Prefect's own command prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=REPOSITORY,
        env={**place.environment, "PREFECT_HOME": str(place.root / "home"), "PYTHONWARNINGS": "ignore", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prefects_command_deploys_the_file_of_the_repository(scheduled: Place, api: Api) -> None:
    prefect_command(scheduled, "work-pool", "create", "--type", "process", "by-hand")
    assert "by-hand" in prefect_command(scheduled, "work-pool", "ls")
    env = {"STILLROOM_SPEC": str(scheduled.spec), "STILLROOM_MODEL": "small", "STILLROOM_POOL": "by-hand"}
    prefect_command(scheduled, "--no-prompt", "deploy", "--all", **env)
    found = api.get("/deployments/name/retrain/scheduled")
    assert (found["entrypoint"], found["pull_steps"]) == ("flows.retrain.retrain", [])
    assert found["parameters"] == {"spec": str(scheduled.spec)}
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["work_pool_name"] == "by-hand"
