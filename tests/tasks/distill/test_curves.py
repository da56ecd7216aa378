"""Curves of a training in a real MLflow, over SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.servers.tracking import connect, experiment
from infra.settings import reload_settings
from tasks.distill.curves import KEY_TAG, Curves


def begin(said: list[str]) -> Curves:
    return Curves("line", "key", "student taught seed 0", tags={"a": "b"}, params={"lr": "0.1"}, say=said.append)


def message(*steps: int) -> dict[str, Any]:
    """What a training says of some steps; the last one is a log point."""
    points = [{"step": step, "loss": 1 / step, "kl": float("nan") if step == 2 else 0.5} for step in steps]
    pace = {"images_per_second": 100.0, "waiting": 0.25}
    log = {"step": steps[-1], "loss": 9.0, "lr": 0.1, "val_auc": 0.75, "epoch": steps[-1] / 4, **pace}
    return {"points": points, "logs": [log], "say": [], "step": steps[-1]}


def runs() -> list[Any]:
    client = connect()
    return list(client.search_runs([experiment(client, "line")]))


def history(name: str) -> list[tuple[int, float]]:
    client = connect()
    return [(m.step, m.value) for m in client.get_metric_history(runs()[0].info.run_id, name)]


def test_steps_and_log_points_are_curves(home: Path) -> None:
    said: list[str] = []
    curves = begin(said)
    curves.add(message(1, 2, 3))
    curves.close("FINISHED")
    (run,) = runs()
    assert (run.info.status, run.info.run_name, run.data.params) == ("FINISHED", "student taught seed 0", {"lr": "0.1"})
    assert run.data.tags[KEY_TAG] == "key"
    assert history("loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert history("kl") == [(1, 0.5), (3, 0.5)]
    assert {name: history(name) for name in ("lr", "val_auc", "epoch", "images_per_second", "waiting")} == {
        "lr": [(3, 0.1)],
        "val_auc": [(3, 0.75)],
        "epoch": [(3, 0.75)],
        "images_per_second": [(3, 100.0)],
        "waiting": [(3, 0.25)],
    }
    assert said == []


def test_a_training_that_goes_on_goes_on_in_its_run(home: Path) -> None:
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


def test_an_mlflow_that_cannot_be_reached_is_told_of_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", "file:/nowhere")
    reload_settings()
    said: list[str] = []
    curves = begin(said)
    curves.add(message(1))
    curves.add(message(2))
    curves.close("FINISHED")
    assert len(said) == 1
    assert "the training goes on" in said[0]
