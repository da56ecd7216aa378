"""Flow `distill`: the line up to the trained students.

Cache policy: stages that the store holds are `Cached`. Environment: `STILLROOM_*` (see README).
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.line import run_line, run_name


@flow(name="distill", flow_run_name=run_name, persist_result=False)
def distill(spec: str, overrides: list[str] | None = None) -> Any:
    """The line up to the trained students.

    Args:
        spec: path of the spec file.
        overrides: `a.b=value` each.
    """
    return run_line(spec, overrides, "distill")
