"""Flow `retrain`: the whole line, from raw images to a registry alias, or the line up to one of its stages.

Purpose: scheduled retraining; a run whose inputs did not change ends in seconds.
Cache policy: stages that the store holds are `Cached`; delete an object and that object alone is made again.
Environment: `STILLROOM_*` (see README); the spec's corpus and store must be reachable.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.line import stages
from flows.parameters import Override, read_spec, run_name
from flows.run import run_line
from flows.running import LAST

Upto = Annotated[str, Field(json_schema_extra={"enum": [stage.name for stage in stages()]})]
"""Name of a stage; the form offers those of the line."""


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    spec: str,
    overrides: list[Override] = [],  # noqa: B006  (Prefect shows the default in its form)
    when_nothing_is_new: Literal["continue", "stop"] = "continue",
    upto: Upto = LAST,
) -> Any:
    """Ingest, label, distil, evaluate, register; what the store holds already is found, not made again.

    Args:
        spec: Path of a spec file on the machine that runs the flow, or the name of a spec in `STILLROOM_HOME/specs`.
        overrides: Keys of the spec that have other values in this run.
        when_nothing_is_new: Continue finds or makes the later stages too; stop ends after an ingest without changes.
        upto: The last stage to run.
    """
    return run_line(read_spec(spec, overrides), upto, stop_when_unchanged=when_nothing_is_new == "stop")
