"""Curves of a training in a real MLflow, over SQLite."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from infra.servers.tracking import FLOW_RUN_TAG, TRAINING_TAG, connect, experiment
from infra.settings import reload_settings
from tasks.distill.curves import Curves


def begin(messages: list[str], key: str = "key", flow_run: str = "") -> Curves:
    return Curves(
        "line",
        key,
        "student taught seed 0",
        tags={"a": "b"},
        params={"lr": "0.1"},
        message=messages.append,
        flow_run=flow_run,
    )


def message(*steps: int) -> dict[str, Any]:
    """A message about some steps; the last one is a log point."""
    points = [{"step": step, "loss": 1 / step, "kl": float("nan") if step == 2 else 0.5} for step in steps]
    pace = {"images_per_second": 100.0, "waiting": 0.25}
    log = {"step": steps[-1], "loss": 9.0, "lr": 0.1, "val_auc": 0.75, "epoch": steps[-1] / 4, **pace}
    return {"points": points, "logs": [log], "lines": [], "step": steps[-1]}


def runs() -> list[Any]:
    client = connect()
    return list(client.search_runs([experiment(client, "line")]))


def history(name: str) -> list[tuple[int, float]]:
    client = connect()
    return [(m.step, m.value) for m in client.get_metric_history(runs()[0].info.run_id, name)]


def test_steps_and_log_points_are_curves(home: Path) -> None:
    messages: list[str] = []
    curves = begin(messages)
    curves.add(message(1, 2, 3))
    curves.close("FINISHED")
    (run,) = runs()
    assert (run.info.status, run.info.run_name, run.data.params) == ("FINISHED", "student taught seed 0", {"lr": "0.1"})
    assert run.data.tags[TRAINING_TAG] == "key"
    assert history("loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert history("kl") == [(1, 0.5), (3, 0.5)]
    assert {name: history(name) for name in ("lr", "val_auc", "epoch", "images_per_second", "waiting")} == {
        "lr": [(3, 0.1)],
        "val_auc": [(3, 0.75)],
        "epoch": [(3, 0.75)],
        "images_per_second": [(3, 100.0)],
        "waiting": [(3, 0.25)],
    }
    assert messages == []


def test_a_resumed_training_goes_on_in_its_run(home: Path) -> None:
    first = begin([])
    first.add(message(1, 2, 3))
    first.close("FAILED")
    second = begin([])
    second.add(message(2, 3, 4))  # from a checkpoint of step 1
    second.close("FINISHED")
    assert [run.info.status for run in runs()] == ["FINISHED"]
    assert [step for step, _ in history("loss")] == [1, 2, 3, 4]
    assert [step for step, _ in history("lr")] == [3, 4]


def test_a_training_made_again_has_a_run_of_its_own(home: Path) -> None:
    for _ in range(2):
        curves = begin([])
        curves.add(message(1))
        curves.close("FINISHED")
    assert len(runs()) == 2


def test_an_mlflow_that_cannot_be_reached_is_reported_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", "file:/nowhere")
    reload_settings()
    messages: list[str] = []
    curves = begin(messages)
    curves.add(message(1))
    curves.add(message(2))
    curves.close("FINISHED")
    assert len(messages) == 1
    assert "the training goes on" in messages[0]


def by_tag(name: str, value: str) -> list[Any]:
    return [run for run in runs() if run.data.tags.get(name) == value]


def test_trainings_of_one_flow_run_are_children_of_one_run(home: Path) -> None:
    both = [begin([], key, "flow-1") for key in ("a", "b")]
    for curves in both:
        curves.add(message(1))
    both[0].close("FINISHED")
    (parent,) = by_tag(FLOW_RUN_TAG, "flow-1")
    assert parent.info.status == "RUNNING"
    both[1].close("FINISHED")
    children = by_tag("mlflow.parentRunId", parent.info.run_id)
    assert {run.data.tags[TRAINING_TAG] for run in children} == {"a", "b"}
    assert [run.info.status for run in runs()] == ["FINISHED"] * 3


def test_a_training_outside_of_a_flow_run_has_no_parent(home: Path) -> None:
    begin([]).close("FINISHED")
    (run,) = runs()
    assert "mlflow.parentRunId" not in run.data.tags


def test_a_resumed_training_becomes_a_child_of_the_flow_run_that_resumes_it(home: Path) -> None:
    dies = begin([], flow_run="flow-1")
    dies.add(message(1))
    while not by_tag(TRAINING_TAG, "key") or not by_tag(TRAINING_TAG, "key")[0].data.metrics:
        time.sleep(0.05)  # its process is killed now: nobody ends its run
    second = begin([], flow_run="flow-2")
    second.add(message(2))
    second.close("FINISHED")
    (old,), (new,) = by_tag(FLOW_RUN_TAG, "flow-1"), by_tag(FLOW_RUN_TAG, "flow-2")
    (run,) = by_tag(TRAINING_TAG, "key")
    assert run.data.tags["mlflow.parentRunId"] == new.info.run_id
    assert [each.info.status for each in (old, new, run)] == ["KILLED", "FINISHED", "FINISHED"]
