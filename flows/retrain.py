"""Flow `retrain`: the whole line, from raw images to a registry alias, or the line up to one of its stages.

Purpose: scheduled retraining; a run whose inputs did not change ends in seconds.
Cache policy: stages that the store holds are `Cached`; delete an object and that object alone is made again.
Environment: `STILLROOM_*` (see README); the spec's corpus and store must be reachable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, Field, model_validator

from flows.line import stages
from flows.run import run_line
from flows.running import LAST
from flows.spec_files import find_spec
from infra.errors import UsageError
from tasks.spec import load_spec

Upto = Annotated[str, Field(json_schema_extra={"enum": [stage.name for stage in stages()]})]
"""Name of a stage; the form offers those of the line."""


class Override(BaseModel):
    """One key of the spec that has another value in this run."""

    key: str = Field(description="dotted key of the spec", examples=["student.train.steps"])
    value: str = Field(description="its value, as YAML", examples=["500"])

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        """`a.b=value`, as the command line takes it."""
        if not isinstance(given, str):
            return given
        key, is_there, value = given.partition("=")
        if not is_there:
            raise UsageError(f"{given!r}: an override has the form a.b=value")
        return {"key": key, "value": value}


def _run_name() -> str:
    """Name of a flow run in the pages: the spec's file, without its folders."""
    return Path(str(flow_run.parameters["spec"])).stem


@flow(name="retrain", flow_run_name=_run_name, persist_result=False)
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
    found = load_spec(find_spec(spec), [f"{one.key}={one.value}" for one in overrides])
    return run_line(found, upto, stop_when_unchanged=when_nothing_is_new == "stop")
