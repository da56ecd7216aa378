"""Parameters that the flows share, as Prefect's form shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.runtime import flow_run
from pydantic import BaseModel, Field, model_validator

from flows.spec_files import find_spec
from infra.errors import UsageError
from tasks.spec import Spec, load_spec


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


def read_spec(spec: str, overrides: list[Override]) -> Spec:
    """The spec that a flow's parameters mean.

    Raises:
        UsageError: there is no such spec, or it is wrong.
    """
    return load_spec(find_spec(spec), [f"{one.key}={one.value}" for one in overrides])


def run_name() -> str:
    """Name of a flow run in the pages: the spec's file, without its folders."""
    return Path(str(flow_run.parameters["spec"])).stem
