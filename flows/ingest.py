"""Flow `ingest`: raw files to checked shards and a catalog.

Cache policy: stages that the store holds are `Cached`. Environment: `STILLROOM_*` (see README).
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.line import run_line, run_name


@flow(name="ingest", flow_run_name=run_name, persist_result=False)
def ingest(spec: str, overrides: list[str] | None = None) -> Any:
    """Raw files to checked shards and a catalog.

    Args:
        spec: path of the spec file.
        overrides: `a.b=value` each.
    """
    return run_line(spec, overrides, "ingest")
