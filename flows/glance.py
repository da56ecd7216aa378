"""A run at a glance: what it decided and why, what was new, what was found and what was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
from prefect.events import emit_event

from flows.automations import REFUSED
from flows.decision import Decision
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.catalog import from_parquet
from tasks.gate.rules import PASSED
from tasks.pipeline.stage import Artifact, slug


def glance(
    store: Store,
    ingested: Sequence[Manifest],
    decision: Decision | None,
    stages: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """JSON-safe: upto, why, new (None: nothing was trained before), images, ungradable, quarantined, cached, made, ...

    Args:
        ingested: manifests of the run's ingests.
        decision: None where the run ended with the ingest.
        stages: of the run's result.
        facts: of its manifests, by step.
    """
    gate = facts.get("gate", {})
    return {
        "upto": decision.upto if decision else "ingest",
        "why": decision.why if decision else "asked to end with an ingest",
        "new": decision.new if decision else None,
        "images": sum(sum(one.facts.get("images", {}).values()) for one in ingested),
        "ungradable": sum(_ungradable(store, one) for one in ingested),
        "quarantined": sum(len(one.quarantine) for one in ingested),
        "cached": [stage["stage"] for stage in stages if stage["state"] == "Cached"],
        "made": [stage["stage"] for stage in stages if stage["state"] != "Cached"],
        "gate": gate.get("verdict"),
        "gate_why": gate.get("why"),
        "seconds": round(seconds, 1),
    }


def _ungradable(store: Store, ingested: Manifest) -> int:
    catalog = from_parquet(read_output(store, ingested.output(kind="catalog")))
    if "gradable" not in catalog.column_names:
        return 0
    return int(pc.sum(pc.equal(catalog["gradable"], False)).as_py() or 0)


def glance_page(name: str, found: Mapping[str, Any]) -> Artifact:
    """The same for people, as the artifact of a flow run."""
    made, cached = found["made"], found["cached"]
    headline = "Nothing had to be made" if not made else f"Made: {', '.join(made)}"
    new = "unknown: nothing was trained before" if found["new"] is None else str(found["new"])
    rows = [
        ("why", found["why"]),
        ("images", str(found["images"])),
        ("new since the last training", new),
        ("ungradable", str(found["ungradable"])),
        ("quarantined", str(found["quarantined"])),
        ("found in the store", f"{len(cached)} of {len(cached) + len(made)} steps"),
        *([("gate", f"{found['gate']}: {found['gate_why']}")] if found["gate"] else []),
        ("seconds", f"{found['seconds']:g}"),
    ]
    table = "\n".join(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows)
    page = f"# {name}: {headline}\n\n| | |\n|---|---|\n{table}\n"
    return Artifact(f"glance-of-{slug(name)}", f"{headline}; {found['why']}", page)


def tell_of_refusal(name: str, found: Mapping[str, Any]) -> None:
    """Emit an event where the gate refused the student of a spec; `stillroom automate` makes notices of it."""
    if found["gate"] in (None, PASSED):
        return
    resource = {"prefect.resource.id": f"stillroom.spec.{name}", "prefect.resource.name": name}
    emit_event(REFUSED, resource=resource, payload={"message": found["gate_why"], "verdict": found["gate"]})


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
