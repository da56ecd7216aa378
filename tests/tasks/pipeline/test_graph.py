"""Steps of a run and what they wait for."""

from __future__ import annotations

from typing import Any

import pytest

from infra.errors import UsageError
from tasks.pipeline.graph import Graph
from tasks.pipeline.stage import Stage


def never(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("a graph binds nothing")


A, B, C, D = (Stage(name, never) for name in "abcd")


def diamond() -> Graph:
    """d waits for b, c; both wait for a; a second b stands beside."""
    graph = Graph()
    a = graph.add(A, "a", "step a")
    b = [graph.add(B, f"b {n}", f"step b {n}", inputs={"first": a}, n=n) for n in range(2)]
    c = graph.add(C, "c", "step c", inputs={"first": a})
    graph.add(D, "d", "step d", inputs={"ours": b[:1]}, after=[c])
    return graph


def titles(graph: Graph, upto: str) -> list[str]:
    return [step.title for step in graph.up_to(upto)]


def test_the_stages_stand_once_each_in_order() -> None:
    assert [stage.name for stage in diamond().stages] == ["a", "b", "c", "d"]


def test_up_to_a_stage_is_all_its_steps_and_what_they_wait_for() -> None:
    assert titles(diamond(), "b") == ["a", "b 0", "b 1"]


def test_a_step_that_only_comes_after_another_waits_for_it_too() -> None:
    assert titles(diamond(), "d") == ["a", "b 0", "c", "d"]


def test_an_unknown_stage_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no stage 'e'; it has a, b, c, d"):
        diamond().up_to("e")


def test_parameters_reach_the_step() -> None:
    assert [step.parameters for step in diamond().steps if step.stage is B] == [{"n": 0}, {"n": 1}]
