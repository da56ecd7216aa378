"""A run at a glance: what it decided and why, how the student stands, what was new, what was found and what was made.

It is the first artifact of a run: made when the run begins, and made anew while it goes on and when it ends. Prefect's
pages show the newest artifact of a run first, so an earlier one is removed and not changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from prefect import get_run_logger
from prefect.events import emit_event

from flows.automations import DRIFTED, OFFERED, REFUSED
from flows.decision import Decision
from flows.live_page import LivePage
from flows.step_times import StepTimes, duration_text
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.gate.drifted import DRIFT
from tasks.gate.rules import PASSED
from tasks.pipeline.graph import Step
from tasks.pipeline.stage import Artifact, slug
from tasks.report import short

SECONDS_BETWEEN_UPDATES = 2.0


def glance(
    store: Store,
    ingested: Sequence[Manifest],
    decision: Decision | None,
    stages: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
    seconds: float,
    *,
    approval: Mapping[str, Any],
    device_hours: float = 0.0,
    devices: str = "",
) -> dict[str, Any]:
    """JSON-safe: upto, why, new (None: nothing was trained before), images, ungradable, quarantined, cached, made, ...

    Args:
        ingested: manifests of the run's ingests.
        decision: None where the run ended with the ingest.
        stages: of the run's result.
        facts: of its manifests, by step.
        approval: as `flows.approval.approval` tells it.
        device_hours: hours in which devices worked for this run, all of them together.
        devices: what they are.
    """
    gate, report, drift = facts.get("gate"), facts.get("evaluate"), short.drift_of(facts)
    return {
        "upto": decision.upto if decision else "ingest",
        "why": decision.why if decision else "asked to end with an ingest",
        "new": decision.new if decision else None,
        "images": sum(sum(one.facts.get("images", {}).values()) for one in ingested),
        "ungradable": sum(short.ungradable(store, one) for one in ingested),
        "quarantined": sum(short.quarantined(one) for one in ingested),
        "cached": [stage["stage"] for stage in stages if stage["state"] == "Cached"],
        "made": [stage["stage"] for stage in stages if stage["state"] != "Cached"],
        "gate": gate["verdict"] if gate else None,
        "gate_why": gate["why"] if gate else None,
        "verdict": short.verdict_text(gate) if gate else "not judged: the run ended before the gate",
        "difference": short.difference_text(gate) if gate else None,
        "worst_site": short.worst_site_text(report) if report else None,
        "drift": drift["verdict"] if drift else None,
        "drift_why": short.drift_text(drift),
        "approval": dict(approval),
        "device_hours": round(device_hours, 4),
        "devices": devices,
        "seconds": round(seconds, 1),
    }


def glance_page(name: str, found: Mapping[str, Any]) -> Artifact:
    """The same for people, as the artifact of a flow run."""
    made, cached, asked = found["made"], found["cached"], found["approval"]
    new = "unknown: nothing was trained before" if found["new"] is None else f"{found['new']:,}"
    link = f" ([decide]({asked['link']}))" if asked["link"] else f" (run {asked['run']})" if asked["run"] else ""
    serves = f"version {asked['champion']}, approved by {asked['approver']}" if asked["champion"] else "nobody"
    rows = [
        ("verdict of the gate", found["verdict"]),
        *([("challenger minus champion", found["difference"])] if found["difference"] else []),
        ("approval", f"{asked['asked']}{link}"),
        *([("serves now", serves)] if asked["model"] else []),
        ("drift since the champion", found["drift_why"]),
        *([("worst site", found["worst_site"])] if found["worst_site"] else []),
        ("new since the last training", new),
        ("images", f"{found['images']:,}"),
        ("ungradable", f"{found['ungradable']:,}"),
        ("quarantined (could not be read)", f"{found['quarantined']:,}"),
        ("what the run did", found["why"]),
        ("made", ", ".join(made) or "nothing"),
        ("found in the store", f"{len(cached)} of {len(cached) + len(made)} steps"),
        ("took", _took(found)),
    ]
    headline = _headline(found)
    return Artifact(_key(name), f"{headline}; {found['why']}", f"# {name}: {headline}\n\n{_table(rows)}")


def _headline(found: Mapping[str, Any]) -> str:
    if found["gate"]:
        return f"{found['gate']}; {found['approval']['asked'].partition(': ')[0].partition(';')[0]}"
    return f"Made: {', '.join(found['made'])}" if found["made"] else "Nothing had to be made"


def _took(found: Mapping[str, Any]) -> str:
    took = duration_text(found["seconds"])
    if not found["device_hours"]:
        return took
    return f"{took}; {found['device_hours']:.2f} device hours ({found['devices']})"


class LiveGlance:
    """The first artifact of a run, while it runs.

    Args:
        name: of the spec.
        times: of the run's steps.
    """

    def __init__(self, name: str, times: StepTimes) -> None:
        self._name, self._times = name, times
        self._ended: list[str] = []
        self._why, self._next = "looks for new images", 0.0
        self._live = LivePage()
        self._show()

    def decided(self, why: str) -> None:
        """The run knows what it does."""
        self._why = why
        self._show()

    def ended(self, step: Step, state: str) -> None:
        """A step ended."""
        self._ended.append(f"{step.label} ({state.lower()})")
        if time.monotonic() >= self._next:
            self._show()

    def stopped(self, why: str) -> None:
        """The run ends without a result; where Prefect's server is away, nobody is told."""
        # What stopped the run is raised next, and counts more than what goes wrong here.
        with suppress(Exception):
            self._live.show(self._page(f"stopped: {why}"))

    def finished(self, page: Artifact) -> None:
        """The run has its result."""
        self._live.show(page, wait=True)

    def _page(self, state: str) -> Artifact:
        rows = [
            ("what the run does", self._why),
            ("done so far", ", ".join(self._ended) or "nothing"),
            ("time left", self._times.left_text if state == "runs" else "none"),
        ]
        return Artifact(_key(self._name), f"{self._name} {state}", f"# {self._name}: {state}\n\n{_table(rows)}")

    def _show(self) -> None:
        self._next = time.monotonic() + SECONDS_BETWEEN_UPDATES
        self._live.show(self._page("runs"))


def emit_results(name: str, found: Mapping[str, Any]) -> None:
    """Log and emit what people should hear of a run; `stillroom automate` makes notices of the events.

    Prefect has no action that writes a log: each event is one line of the run's own log, too, at the level WARNING.
    """
    told = []
    if found["gate"] not in (None, PASSED):
        told.append((REFUSED, found["gate_why"], {"verdict": found["gate"]}))
    if found["drift"] == DRIFT:
        told.append((DRIFTED, found["drift_why"], {"verdict": found["drift"]}))
    asked = found["approval"]
    if asked["new"]:
        told.append((OFFERED, f"{asked['model']} {asked['asked']}", {"link": asked["link"], "run": asked["run"]}))
    for event, message, payload in told:
        get_run_logger().warning("%s (%s): %s", event, name, message)
        resource = {"prefect.resource.id": f"stillroom.spec.{name}", "prefect.resource.name": name}
        emit_event(event, resource=resource, payload={"message": message, **payload})


def _key(name: str) -> str:
    return f"glance-of-{slug(name)}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "\n".join(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows)
    return f"| | |\n|---|---|\n{lines}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
