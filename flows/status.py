"""`stillroom status`: services, recent runs, champions, next runs and stores of this machine, in one answer."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.automations import ASKS, TAG
from infra.errors import StillroomError
from infra.servers.services import noted_services
from infra.storage.store import open_store
from tasks.maintenance.formatting import format_bytes
from tasks.spec import load_spec

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

RUNS = 20
DEPLOYMENTS = 200
SECONDS = 20.0
"""For the page of `stillroom up` to ask every service."""


def current_status() -> dict[str, Any]:
    """JSON-safe: up, services, reaped (runs now marked Crashed), runs, champions, deployments, notes."""
    from flows.running import quiet_console
    from infra.servers.prefect_api import prefect_api

    notes: list[str] = []
    noted = noted_services()
    quiet_console()
    with prefect_api():
        from prefect.client.orchestration import get_client

        from infra.servers.flow_runs import mark_dead_runs_crashed

        reaped = mark_dead_runs_crashed()
        with get_client(sync_client=True) as client:
            runs, deployments = _runs(client), _deployments(client)
    for one in deployments:
        one["store"], one["bytes"] = _store(one, notes)
    return {
        "up": noted["page"] if noted and "page" in noted else None,
        "services": _services(noted, notes),
        "reaped": reaped,
        "runs": runs,
        "champions": _champions(notes),
        "deployments": deployments,
        "notes": list(dict.fromkeys(notes)),
    }


def _services(noted: dict[str, str] | None, notes: list[str]) -> list[dict[str, Any]]:
    if noted is None or "page" not in noted:
        return []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{noted['page']}/services", timeout=SECONDS) as answer:
            return list(json.load(answer))
    except (OSError, ValueError) as error:
        notes.append(f"the page {noted['page']} does not say how the services are ({error})")
        return []


def _runs(client: SyncPrefectClient) -> list[dict[str, Any]]:
    """Newest first; those that are scheduled and did not begin are left out."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
    from prefect.client.schemas.sorting import FlowRunSort

    begun = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    found = client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=RUNS)
    names = {flow: client.read_flow(flow).name for flow in {run.flow_id for run in found}}
    return [
        {
            "name": run.name,
            "flow": names[run.flow_id],
            "state": run.state.name if run.state else "unknown",
            "started": run.start_time.isoformat() if run.start_time else None,
            "message": (run.state.message or "") if run.state else "",
        }
        for run in found
    ]


def _deployments(client: SyncPrefectClient) -> list[dict[str, Any]]:
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        DeploymentFilterTags,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    ours = DeploymentFilter(tags=DeploymentFilterTags(any_=[TAG, ASKS]))
    scheduled = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
    found = []
    for one in client.read_deployments(deployment_filter=ours, limit=DEPLOYMENTS):
        waiting = client.read_flow_runs(
            flow_run_filter=scheduled,
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[one.id])),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=1,
        )
        due = waiting[0].expected_start_time if waiting and not one.paused else None
        found.append(
            {
                "name": f"{client.read_flow(one.flow_id).name}/{one.name}",
                "pool": one.work_pool_name,
                "paused": one.paused,
                "next": due.isoformat() if due else None,
                "spec": one.parameters.get("spec"),
            }
        )
    return sorted(found, key=lambda row: str(row["name"]))


def _store(deployment: dict[str, Any], notes: list[str]) -> tuple[str | None, int | None]:
    """Store of a deployment's spec and its bytes; None for what cannot be read here, which is noted."""
    spec = deployment["spec"]
    if not spec or not Path(spec).is_file():
        return None, None
    try:
        store = open_store(load_spec(spec).store)
        return store.url.partition("?")[0], sum(store.sizes("").values())
    except (StillroomError, OSError) as error:
        notes.append(f"{spec}: its store cannot be read ({error})")
        return None, None


def _champions(notes: list[str]) -> list[dict[str, Any]]:
    from infra.servers.tracking import alias_of, connect, quiet
    from infra.servers.tracking_check import check_reachable

    try:
        check_reachable()
        client = connect()
        with quiet():
            names = [model.name for model in client.search_registered_models(max_results=100)]
        held = {name: alias_of(client, name, "champion") for name in names}
    except StillroomError as error:
        notes.append(str(error))
        return []
    return [{"model": name, "version": str(found.version) if found else None} for name, found in held.items()]


def status_lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"page     {found['up']}" if found["up"] else "nothing is up (stillroom up)"]
    lines += [
        f"  {one['state']:<12} {one['name']:<24} {'  '.join(filter(None, (one['link'], one['says'])))}"
        for one in found["services"]
    ]
    lines += ["runs"] if found["runs"] else []
    for run in found["runs"]:
        why = f"  {run['message']}" if run["state"] in ("Crashed", "Failed") else ""
        lines.append(f"  {run['state']:<12} {run['flow']:<10} {run['name']:<20} {(run['started'] or '')[:19]}{why}")
    lines += ["champions"] if found["champions"] else []
    for one in found["champions"]:
        lines.append(f"  {one['model']:<24} {'version ' + one['version'] if one['version'] else 'none'}")
    lines += ["deployments"] if found["deployments"] else []
    for one in found["deployments"]:
        due = "paused" if one["paused"] else (one["next"] or "by hand")[:19]
        lines.append(f"  {one['name']:<28} next {due}")
    stores = {one["store"]: one["bytes"] for one in found["deployments"] if one["store"]}
    lines += ["stores"] if stores else []
    lines += [f"  {format_bytes(size):>10} {url}" for url, size in stores.items()]
    return [*lines, *(f"note: {note}" for note in found["notes"])]
