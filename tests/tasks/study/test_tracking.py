"""A study's runs in MLflow: one parent, a child a unit, found again; a study goes on where MLflow is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from infra.servers.tracking import connect, quiet
from infra.settings import reload_settings
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.study.design import Cell, Condition, Contrast, Study
from tasks.study.runs import Ran
from tasks.study.tracking import STUDY_TAG, UNIT_TAG, StudyRuns
from tests.databases import copy_databases
from tests.tasks.machine import own_machine
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

CELL = Cell("all", "taught")
STUDY = Study("guidance", "", "", [Condition("all", "all", {}, {"taught": {}})], {}, Contrast(CELL, CELL), [])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    folder = tmp_path_factory.mktemp("tracking")
    copy_databases(folder / "home")
    with own_machine(folder / "home"):
        yield LocalStore(folder / "store")


def ran(store: LocalStore, *seeds: int) -> Ran:
    corpus = tiny_corpus(store)
    rows = {"seeds": list(seeds), "per_seed": [{"macro_f1": 0.5 + seed / 10, "mcc": None} for seed in seeds]}
    facts = {"arms": {"taught": rows}}
    report = Manifest(stage="evaluate", version=1, key="r", inputs=[], section={}, outputs=[], facts=facts)
    return Ran(corpus.manifest, [], report, {"taught": {seed: trained(corpus, "taught", seed) for seed in seeds}})


def table() -> Manifest:
    row = {"condition": "all", "arm": "taught", "values": {"macro_f1": 0.5}}
    primary = {"value": 0.1, "interval": [0.05, 0.2], "p": 0.01}
    facts = {"metric": "macro_f1", "primary": primary, "rows": [row]}
    return Manifest(stage="study", version=1, key="s", inputs=[], section={}, outputs=[], facts=facts)


def write(store: LocalStore, *seeds: int) -> list[str]:
    """Write the runs of a study; what is said of them."""
    said: list[str] = []
    runs = StudyRuns(store, tiny_spec(store), STUDY, message=said.append)
    runs.open()
    runs.add("all", None, ran(store, *seeds), {"taught": 3.0})
    runs.close(table())
    return said


def found(store: LocalStore, tag: str) -> list[Any]:
    with quiet():
        client = connect()
        place = client.get_experiment_by_name(tiny_spec(store).name).experiment_id
        return list(client.search_runs([place], f"tags.`{tag}` LIKE '%'"))


def test_a_study_that_runs_again_goes_on_in_its_runs(store: LocalStore) -> None:
    assert write(store, 0) == write(store, 0, 1) == []
    (parent,), units = found(store, STUDY_TAG), found(store, UNIT_TAG)
    assert (parent.info.status, parent.data.metrics["primary/low"]) == ("FINISHED", 0.05)
    assert sorted(unit.data.params["seed"] for unit in units) == ["0", "1"]
    first = next(unit for unit in units if unit.data.params["seed"] == "0")
    assert first.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (first.data.params["rate"], first.data.metrics["test_macro_f1"]) == ("3", 0.5)
    assert first.data.metrics["val_macro_f1"] == pytest.approx(0.5)


def test_where_mlflow_is_not_there_it_is_said_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", "file:/nowhere")
    reload_settings()
    said = write(store, 0)
    monkeypatch.undo()
    reload_settings()
    assert len(said) == 1
    assert "its runs are not written to MLflow" in said[0]
