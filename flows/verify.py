"""Flow `verify`: every object of a spec's store against its manifest.

Purpose: a weekly check that nothing rots; a store with a defect fails the run, whose artifact names what is hit.
Cache policy: none; everything is read.
Environment: `STILLROOM_*` (see README); the spec's store must be reachable.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext

from flows.parameters import read_spec, run_name
from infra.errors import CorruptError
from infra.servers.flow_runs import own_this_run
from infra.storage.store import open_store
from tasks.maintenance.formatting import verify_lines
from tasks.maintenance.verify import verify as verify_store
from tasks.pipeline.stage import Artifact, slug
from tasks.prefect_tasks import publish

STEPS = 20
"""Updates of the progress that people see."""


@flow(name="verify", flow_run_name=run_name, persist_result=False)
def verify(spec: str) -> Any:
    """Read every object of a store and compare it with what its manifest says; fails where something is damaged.

    Args:
        spec: Path of a spec file on the machine that runs the flow, or the name of a spec in `STILLROOM_HOME/specs`.
    """
    context = FlowRunContext.get()
    own_this_run(context.flow_run if context else None)
    found = read_spec(spec, [])
    bar: Any = create_progress_artifact(progress=0.0, key=f"verify-{slug(found.name)}", description="objects read")
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if total and done * STEPS // total > shown:
            shown = done * STEPS // total
            update_progress_artifact(artifact_id=bar, progress=100.0 * shown / STEPS)

    report = verify_store(open_store(found.store), progress=progress)
    lines = verify_lines(report)
    page = "\n".join(["# Check of the store", "", *(f"- `{line}`" for line in lines)])
    publish(Artifact(f"verify-of-{slug(found.name)}", lines[-1], f"{page}\n"))
    if not report.sound:
        raise CorruptError(f"{found.store}: {lines[-1]}; the first is {lines[0]}")
    return report.to_json()
