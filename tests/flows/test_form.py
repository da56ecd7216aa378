"""The form in which people start a flow from Prefect's pages."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema

from flows.ingest import ingest
from flows.line import stages
from flows.retrain import retrain
from flows.verify import verify


def test_the_last_stage_is_chosen_from_those_of_the_line() -> None:
    upto = parameter_schema(retrain.fn).properties["upto"]
    assert upto["enum"] == [stage.name for stage in stages()]
    assert upto["default"] == "register"
    assert "The last stage to run" in upto["description"]


@pytest.mark.parametrize("flow", [retrain, ingest, verify])
def test_every_parameter_says_what_it_means_and_the_spec_comes_first(flow: Any) -> None:
    fields = parameter_schema(flow.fn).properties
    assert all(field.get("description") for field in fields.values())
    assert min(fields, key=lambda name: fields[name]["position"]) == "spec"
