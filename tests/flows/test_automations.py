"""Notices for who is not watching: real automations on a real Prefect server, a real webhook."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flows.automations import ASKS
from tests.databases import AUTH
from tests.line import Place
from tests.prefect_client import Api, wait_until

SILENT = """
import threading
from prefect import flow, tags

@flow(name="silent", persist_result=False)
def silent():
    threading.Event().wait()

with tags("stillroom"):
    silent()
"""
"""A run that goes on until its process is killed."""


class Hook:
    """A server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/notices"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(prefect_server: str) -> Api:
    return Api(prefect_server, AUTH)


@pytest.fixture(scope="module")
def automated(tmp_path_factory: pytest.TempPathFactory, prefect_server: str, hook: Hook) -> Place:
    place = Place(tmp_path_factory.mktemp("automated"), api=prefect_server)
    made = place.json("automate", "--webhook", hook.url)
    assert [one["changed"] for one in made["automations"]] == [False] * 5
    return place


def about(hook: Hook, word: str) -> dict[str, Any]:
    """The notice whose text has a word, once it comes."""
    return dict(wait_until(lambda: next((one for one in hook.got if word in json.dumps(one)), None)))


def test_a_failed_run_is_told_of(automated: Place, api: Api, hook: Hook) -> None:
    flow = api.post("/flows/", {"name": "retrain"})
    run = api.post("/flow_runs/", {"flow_id": flow["id"], "name": "of-a-clinic", "tags": ["stillroom"]})
    failed = {"state": {"type": "FAILED", "message": 'the disk is "full"'}, "force": True}
    api.post(f"/flow_runs/{run['id']}/set_state", failed)
    found = about(hook, "of-a-clinic")
    assert found["event"] == "prefect.flow-run.Failed"
    assert found["message"] == 'the disk is "full"'


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("stillroom.student.refused", "sensitivity 0.71 is below 0.85"),
        ("stillroom.images.drifted", "drift (camera mix): today's images come from another camera"),
        ("stillroom.student.offered", "grading version 3 waits for approval"),
    ],
)
def test_what_a_run_says_of_its_student_and_images_is_told(
    automated: Place, api: Api, hook: Hook, event: str, said: str
) -> None:
    emitted = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": "stillroom.spec.grading", "prefect.resource.name": "grading"},
        "payload": {"message": said, "link": "http://prefect.example/runs/flow-run/1"},
        "id": str(uuid.uuid4()),
    }
    api.post("/events", [emitted])
    found = about(hook, event)
    assert (found["run"], found["message"], found["link"]) == ("grading", said, emitted["payload"]["link"])


def test_dead_runs_are_never_crashed_by_force(automated: Place, api: Api) -> None:
    (found,) = [one for one in api.post("/automations/filter", {}) if one["name"] == "stillroom: dead runs are Crashed"]
    assert found["trigger"]["posture"] == "Proactive"
    assert found["trigger"]["within"] == 90
    assert found["actions"][0]["force"] is False
    assert "prefect.flow-run.Suspended" in found["trigger"]["expect"]


def test_a_run_whose_process_was_killed_is_crashed_and_one_that_waits_is_not(automated: Place, api: Api) -> None:
    flow = api.post("/flows/", {"name": "promote"})
    waits = api.post("/flow_runs/", {"flow_id": flow["id"], "name": "waits", "tags": [ASKS]})
    beat = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{waits['id']}"},
        "related": [{"prefect.resource.id": f"prefect.tag.{ASKS}", "prefect.resource.role": "tag"}],
        "id": str(uuid.uuid4()),
    }
    suspended = {"state": {"type": "PAUSED", "name": "Suspended"}, "force": True}
    api.post(f"/flow_runs/{waits['id']}/set_state", suspended)
    api.post("/events", [beat])  # the last one comes in late

    env = {**automated.environment, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    env["PREFECT_HOME"] = str(automated.root / "home/prefect")
    with (automated.root / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", SILENT], env=env, cwd=automated.root, stdout=log, stderr=log)
    wanted = {"flows": {"name": {"any_": ["silent"]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    (run,) = wait_until(lambda: api.post("/flow_runs/filter", wanted))
    beats = {
        "filter": {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "any_resource": {"id": [f"prefect.flow-run.{run['id']}"]},
        }
    }
    wait_until(lambda: api.post("/events/filter", beats)["events"])
    process.kill()
    process.wait()
    found = wait_until(lambda: one if (one := state_of(api, run))["type"] != "RUNNING" else None, 300)
    assert (found["name"], found["message"]) == ("Crashed", "silent for 90 s: the process that ran it is gone")
    assert state_of(api, waits)["name"] == "Suspended"


def state_of(api: Api, run: dict[str, Any]) -> dict[str, Any]:
    return dict(api.get(f"/flow_runs/{run['id']}")["state"])


def test_a_second_command_changes_the_first(automated: Place, api: Api) -> None:
    made = automated.json("automate")
    assert [one["changed"] for one in made["automations"]] == [True] * 5
    ours = [one for one in api.post("/automations/filter", {}) if one["name"].startswith("stillroom: ")]
    assert len(ours) == 5
    assert {one["actions"][0]["type"] for one in ours} == {"do-nothing", "change-flow-run-state"}
