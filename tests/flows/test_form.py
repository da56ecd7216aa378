"""The form in which people start a flow from Prefect's pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema

from flows.approve import Answer, approve, question
from flows.ingest import ingest
from flows.line import stages
from flows.retrain import retrain
from flows.verify import verify
from tasks.register.offers import Offer


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


def test_a_run_by_hand_asks_for_the_model_and_finds_the_version() -> None:
    fields = parameter_schema(approve.fn).properties
    assert [name for name, _ in sorted(fields.items(), key=lambda one: one[1]["position"])] == ["model", "version"]
    assert all(field.get("description") for field in fields.values())
    assert (fields["version"]["type"], fields["version"]["default"]) == ("integer", 0)


def test_the_answer_is_a_decision_then_a_name_then_a_reason() -> None:
    schema = Answer.model_json_schema()
    fields = schema["properties"]
    assert [(name, field["position"]) for name, field in fields.items()] == [
        ("decision", 0),
        ("name", 1),
        ("reason", 2),
    ]
    assert fields["decision"]["enum"] == ["approve", "refuse"]
    assert "nobody checks it" in fields["name"]["description"]
    assert schema["required"] == ["decision", "name", "reason"]


def test_the_question_shows_the_figures_and_says_that_nobody_checks_the_name(home: Path) -> None:
    described = "Grades eyes.\n\n### Figures\n\n| kappa | 0.81 |\n\n### Limits\n\n- few patients\n"
    asked = question(Offer("eyes", "3", "2", described))
    assert "Does version 3 of eyes become the champion?" in asked
    assert "version 2 serves now" in asked
    assert "| kappa | 0.81 |" in asked
    assert "few patients" not in asked
    assert "nobody checks it" in asked
