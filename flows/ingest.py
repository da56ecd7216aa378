"""Flow `ingest`: new files of a corpus into its store.

Purpose: a poll that runs often; a corpus without new files is listed once and the run ends in seconds.
Cache policy: that of the stage ingest; what was stored stays, new files make new shards only.
Environment: `STILLROOM_*` (see README); the spec's corpus and store must be reachable.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import Override, read_spec, run_name
from flows.run import run_line
from tasks.ingest.stage import INGEST


@flow(name="ingest", flow_run_name=run_name, persist_result=False)
def ingest(
    spec: str,
    overrides: list[Override] = [],  # noqa: B006  (Prefect shows the default in its form)
) -> Any:
    """Bring new images of a corpus into its store; nothing is trained.

    Args:
        spec: Path of a spec file on the machine that runs the flow, or the name of a spec in `STILLROOM_HOME/specs`.
        overrides: Keys of the spec that have other values in this run.
    """
    return run_line(read_spec(spec, overrides), INGEST.name)
