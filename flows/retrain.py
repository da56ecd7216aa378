"""Flow `retrain`: the whole line, from raw images to a registry alias.

Purpose: scheduled retraining; a run whose inputs did not change ends in seconds.
Cache policy: stages that the store holds are `Cached`; delete an object and that object alone is made again.
Environment: `STILLROOM_*` (see README); the spec's corpus and store must be reachable.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.line import run_line, run_name


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(spec: str, overrides: list[str] | None = None) -> Any:
    """Ingest, label, distil, evaluate, register.

    Args:
        spec: path of the spec file.
        overrides: `a.b=value` each, such as `student.train.steps=500`.
    """
    return run_line(spec, overrides, "register")
