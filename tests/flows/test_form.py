"""The form in which people start a retrain from Prefect's pages."""

from __future__ import annotations

from prefect.utilities.callables import parameter_schema

from flows.line import stages
from flows.retrain import retrain


def test_the_last_stage_is_chosen_from_those_of_the_line() -> None:
    upto = parameter_schema(retrain.fn).properties["upto"]
    assert upto["enum"] == [stage.name for stage in stages()]
    assert upto["default"] == "register"
    assert "The last stage to run" in upto["description"]
