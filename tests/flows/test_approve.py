"""Versions that wait for a person: runs of a real worker suspend themselves, are answered, and do as they are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.approval import approval
from flows.asking import Asked, ask
from infra.errors import UsageError
from infra.servers.tracking import alias_of, connect, versions
from tasks.register.aliases import moves
from tasks.register.champion import promote
from tasks.register.offers import offer, refusal_of
from tests.databases import AUTH
from tests.line import SPEC, Place
from tests.prefect_client import Api, wait_until
from tests.tasks.machine import own_machine

MODEL, POOL = "asked-about", "of-approvals"
YES = {"decision": "approve", "name": "Dr. Ito", "reason": "better on site B"}
NO = {"decision": "refuse", "name": "Dr. Ono", "reason": "misses bleedings"}


@dataclass
class Clinic:
    """A deployed spec, a worker, and the registry of their machine."""

    place: Place
    api: Api
    client: Any
    worker: psutil.Process

    def offered(self, *, beside: str | None = None) -> str:
        """Number of a new version that passed the gate beside the champion, or beside another version."""
        against = self.champion() if beside is None else beside
        tags = {"stillroom.gate": "passed", "stillroom.gate_against": f"{against} 0123" if against else ""}
        made = self.client.create_model_version(MODEL, source=str(self.place.root), tags=tags, description="QWK 0.81")
        self.client.set_registered_model_alias(MODEL, "challenger", made.version)
        return str(made.version)

    def champion(self) -> str:
        held = alias_of(self.client, MODEL, "champion")
        return "" if held is None else str(held.version)

    def waiting(self, version: str) -> Asked:
        """The run that asks about a version, once it waits."""
        asked = ask(MODEL, version)
        assert asked is not None
        self.reaches(asked.run_id, "Suspended")
        return asked

    def run(self, run: str) -> dict[str, Any]:
        return dict(self.api.get(f"/flow_runs/{run}"))

    def reaches(self, run: str, *names: str) -> dict[str, Any]:
        """A run once it is in a state of one of these names."""
        return dict(wait_until(lambda: found if (found := self.run(run))["state"]["name"] in names else None))

    def answer(self, run: str, **given: str) -> str:
        """What Prefect says of an answer."""
        return str(self.api.post(f"/flow_runs/{run}/resume", {"run_input": given})["status"])

    def engines(self) -> list[psutil.Process]:
        return [one for one in self.worker.children() if one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Iterator[Clinic]:
    place = Place(
        tmp_path_factory.mktemp("clinic"), text=SPEC.replace("name: small", f"name: {MODEL}"), api=prefect_server
    )
    place.json("deploy", "small.yaml", "--work-pool", POOL, "--cron", "", "--verify-cron", "", "--poll-minutes", "0")
    env = {**place.environment, "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(place.root / "home/prefect")}
    command = [sys.executable, "-m", "infra.lifeline", "infra.servers.pool_worker", POOL]
    with (place.root / "log").open("ab") as log:
        process = subprocess.Popen(command, env=env, cwd=place.root, stdout=log, stderr=log)
    known = {PREFECT_API_URL: prefect_server, PREFECT_API_AUTH_STRING: AUTH}
    with own_machine(place.root / "home"), temporary_settings(known):
        client = connect()
        client.create_registered_model(MODEL)
        yield Clinic(place, Api(prefect_server, AUTH), client, psutil.Process(process.pid))
    process.terminate()
    process.wait(60)


def test_an_approved_version_becomes_champion_and_no_process_waits_meanwhile(clinic: Clinic) -> None:
    version = clinic.offered()
    asked = clinic.waiting(version)
    again = ask(MODEL, version)
    assert again is not None
    assert (again.run_id, asked.new, again.new) == (asked.run_id, True, False)
    assert clinic.run(asked.run_id)["name"] == f"{MODEL} version {version}"
    wait_until(lambda: not clinic.engines())
    assert clinic.answer(asked.run_id, **{**YES, "name": " "}) == "REJECT"
    assert clinic.answer(asked.run_id, **YES) == "ACCEPT"
    found = clinic.reaches(asked.run_id, "Approved", "Failed")
    assert found["state"]["message"] == (
        f"{MODEL} version {version} is the champion now, it was nobody. "
        "By Dr. Ito (as typed; nobody checked the name): better on site B"
    )
    assert clinic.champion() == version
    assert moves(clinic.client, MODEL)[-1].by == "Dr. Ito"
    # Who asks again is told, and starts nothing.
    with pytest.raises(UsageError, match="is the champion already"):
        offer(MODEL, version)


def test_a_refused_version_is_marked_and_not_offered_again(clinic: Clinic) -> None:
    before, version = clinic.champion(), clinic.offered()
    asked = clinic.waiting(version)
    clinic.answer(asked.run_id, **NO)
    assert clinic.reaches(asked.run_id, "Refused", "Failed")["state"]["name"] == "Refused"
    assert clinic.champion() == before
    held = next(each for each in versions(clinic.client, MODEL) if str(each.version) == version)
    refusal = refusal_of(held)
    assert refusal is not None
    assert (refusal.by, refusal.reason) == ("Dr. Ono", "misses bleedings")
    with pytest.raises(UsageError, match=r"was refused on .* by Dr. Ono .*: misses bleedings"):
        offer(MODEL, version)


def test_a_newer_version_takes_the_place_of_one_that_waits(clinic: Clinic) -> None:
    older = clinic.offered()
    waits = clinic.waiting(older)
    newer = clinic.offered()
    with pytest.raises(UsageError, match=f"was replaced: version {newer} is offered by now"):
        offer(MODEL, older)
    asked = ask(MODEL, newer)
    found = clinic.run(waits.run_id)["state"]
    assert (found["type"], found["name"]) == ("CANCELLED", "Cancelled")
    assert f"version {newer} is offered by now" in found["message"]
    assert asked is not None
    # A question that somebody cancels is not asked again.
    clinic.reaches(asked.run_id, "Suspended")
    clinic.api.post(f"/flow_runs/{asked.run_id}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert ask(MODEL, newer) is None


def test_what_changed_while_a_version_waited_is_told_and_nothing_moves(clinic: Clinic) -> None:
    first = clinic.champion()
    waits = clinic.waiting(clinic.offered())
    newer = clinic.client.create_model_version(MODEL, source=str(clinic.place.root), tags={"stillroom.gate": "passed"})
    promote(MODEL, str(newer.version), by="Dr. Sato", reason="urgent")
    clinic.answer(waits.run_id, **YES)
    found = clinic.reaches(waits.run_id, "Approved", "Failed")["state"]
    assert found["name"] == "Failed"
    assert f"is older than the champion, which is version {newer.version} by now" in found["message"]
    assert clinic.champion() == str(newer.version)

    stale = clinic.offered(beside=first)
    with pytest.raises(UsageError, match=f"was compared with version {first}, and the champion is version"):
        offer(MODEL, stale)


def start(clinic: Clinic, **parameters: Any) -> str:
    """A run that a person starts by the form of the deployment."""
    deployment = clinic.api.get(f"/deployments/name/promote/{MODEL}")["id"]
    body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
    return str(clinic.api.post(f"/deployments/{deployment}/create_flow_run", body)["id"])


def test_a_run_by_hand_finds_what_is_offered_and_whether_it_waits_already(clinic: Clinic) -> None:
    version = clinic.offered()
    first = start(clinic)
    found = clinic.reaches(first, "Suspended")
    assert found["name"] == f"{MODEL} version {version}"
    asked = ask(MODEL, version)
    assert asked is not None
    assert asked.run_id == first
    second, wrong = start(clinic), start(clinic, model="nobodys")
    told = clinic.reaches(second, "Cancelled", "Suspended")["state"]
    assert told["name"] == "Cancelled"
    assert f"{MODEL} version {version} waits already" in told["message"]
    failed = clinic.reaches(wrong, "Failed")["state"]["message"]
    assert "has no model 'nobodys'; it has asked-about" in failed


def test_a_version_that_the_gate_holds_is_not_offered(clinic: Clinic) -> None:
    tags = {"stillroom.gate": "hold", "stillroom.gate_why": "drift: the camera mix changed"}
    held = clinic.client.create_model_version(MODEL, source=str(clinic.place.root), tags=tags)
    with pytest.raises(UsageError, match=r"did not pass the gate \(hold: drift: the camera mix changed\)"):
        offer(MODEL, str(held.version))


def test_a_run_tells_who_is_asked_and_who_approved_the_champion(clinic: Clinic) -> None:
    passed, version = {"verdict": "passed"}, clinic.offered()
    registered = {"name": MODEL, "version": version}
    found = approval("by_hand", registered, passed)
    assert (found["champion"], found["asked"], found["new"]) == (
        clinic.champion(),
        f"version {version} waits for approval",
        True,
    )
    assert found["approver"].startswith("Dr. ")
    again = approval("by_hand", registered, passed)
    assert (again["run"], again["new"]) == (found["run"], False)
    clinic.api.post(f"/flow_runs/{found['run']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert "stillroom promote asked-about" in approval("by_hand", registered, passed)["asked"]
    held = approval("by_hand", registered, {"verdict": "hold"})
    assert held["asked"] == f"nobody is asked: the gate did not let version {version} pass"
    assert approval("by_hand", None, {})["asked"] == "nobody is asked: this run registered no version"
