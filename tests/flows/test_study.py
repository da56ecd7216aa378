"""`stillroom study`: a small one, killed half-way, run again, and extended by a seed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.servers.tracking import connect, quiet
from tasks.study.tracking import STUDY_TAG, UNIT_TAG
from tests.databases import AUTH
from tests.line import Place
from tests.prefect_client import Api
from tests.tasks.machine import own_machine

SPEC = """
name: few
store: store
corpus:
  adapter: phantom-endoscopy
  root: corpus
  phantom: {size: 64, labelled: 36, unlabelled: 12, val: 18, test: 18, seed: 5}
ingest: {shard_size: 16}
views: {size: 48, count: 1}
teachers:
  - {name: big, model: micro_xs, train: {steps: 8, batch: 16, lr: 0.005}}
student:
  model: micro_xs
  train: {steps: 8, batch: 16, lr: 0.005}
evaluate: {bootstrap: 50}
study: {steps: 8, shares: [0.5], rates: [1.0, 2.0]}
run: {device: cpu, cluster: {workers: 1}}
"""

ARGUMENTS = ("study", "unlabeled", "--arms", "labels")


def trainings(place: Place) -> dict[str, int]:
    """When each student that is trained was committed, in nanoseconds, by its key."""
    found = place.store.glob("manifests/distill/*.json")
    return {path.stem: path.stat().st_mtime_ns for path in found}


def runs(place: Place, tag: str) -> list[Any]:
    """Runs in MLflow that have a tag."""
    with own_machine(place.root / "home"), quiet():
        client = connect()
        found = client.get_experiment_by_name("few")
        return list(client.search_runs([found.experiment_id], f"tags.`{tag}` LIKE '%'", max_results=100))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    return Place(tmp_path_factory.mktemp("study"), text=SPEC, api=prefect_server)


@pytest.fixture(scope="module")
def plan(place: Place) -> dict[str, Any]:
    """Before anything is made."""
    return place.json(*ARGUMENTS, str(place.spec), "--seeds", "1", "--plan")


@pytest.fixture(scope="module")
def finished(place: Place, plan: dict[str, Any]) -> dict[str, int]:
    """The trainings that a study had finished when it was killed."""
    process = place.start(*ARGUMENTS, str(place.spec), "--seeds", "1")
    place.wait_until(process, lambda here: len(trainings(here)) > 1)
    process.kill()
    process.wait()
    psutil.wait_procs(place.processes(), timeout=60)
    return trainings(place)


@pytest.fixture(scope="module")
def made(place: Place, finished: dict[str, int]) -> dict[str, Any]:
    return place.json(*ARGUMENTS, str(place.spec), "--seeds", "1")


@pytest.fixture(scope="module")
def extended(place: Place, made: dict[str, Any]) -> dict[str, Any]:
    """With one more seed."""
    return place.json(*ARGUMENTS, str(place.spec), "--seeds", "2")


def test_a_plan_counts_trainings_once_a_learning_rate(plan: dict[str, Any]) -> None:
    # The teacher; labels alone; the transfer and its fine-tuning.
    assert (plan["trainings"], plan["cached"]) == (1 + 2 * 3, 0)
    assert "transfer from unlabelled images, then labels minus labels alone" in plan["primary"]


def test_the_report_says_plumbing_and_the_primary_contrast_first(made: dict[str, Any]) -> None:
    text = Path(made["outputs"]["report"]).read_text()
    assert text.index("phantoms, drawn by code") < text.index("Primary contrast") < text.index("## Table")
    assert "we have not read the full paper" in text


def test_a_killed_study_trains_nothing_again(place: Place, made: dict[str, Any], finished: dict[str, int]) -> None:
    now = trainings(place)
    assert len(now) > len(finished) > 1
    assert {key: now[key] for key in finished} == finished


def test_a_row_has_what_its_network_costs_and_its_gap(made: dict[str, Any]) -> None:
    rows = list(csv.DictReader(Path(made["outputs"]["csv"]).read_text().splitlines()))
    (row,) = [row for row in rows if row["arm"] == "taught"]
    assert int(row["bytes"]) > 1000
    assert float(row["latency_ms"]) > 0
    assert all(row[name] for name in ("teacher_kl", "teacher_r2", "train", "gap"))


def test_every_kind_of_output_is_there(made: dict[str, Any]) -> None:
    assert set(made["outputs"]) == {
        *("report", "figures", "csv", "tex", "png", "svg"),
        *("curves_csv", "curves_png", "curves_svg"),
    }


def test_one_more_seed_trains_that_seed_alone(extended: dict[str, Any]) -> None:
    new = [stage["stage"] for stage in extended["stages"] if stage["state"] != "Cached"]
    assert new
    assert all(title == "evaluate" or title.endswith("seed 1") for title in new)


def test_mlflow_has_one_parent_and_a_run_a_unit(place: Place, extended: dict[str, Any]) -> None:
    (parent,) = runs(place, STUDY_TAG)
    assert parent.info.status == "FINISHED"
    assert "primary/difference" in parent.data.metrics
    units = runs(place, UNIT_TAG)
    assert sorted((one.data.params["arm"], one.data.params["seed"]) for one in units) == [
        *(("labels", "0"), ("labels", "1")),
        *(("taught", "0"), ("taught", "1")),
    ]
    assert {one.data.tags["mlflow.parentRunId"] for one in units} == {parent.info.run_id}


def test_prefect_shows_that_all_is_done(extended: dict[str, Any], prefect_server: str) -> None:
    key = {"artifacts": {"key": {"any_": ["study-progress-unlabeled-few"]}}, "sort": "CREATED_DESC"}
    found = Api(prefect_server, AUTH).post("/artifacts/filter", key)[0]
    assert found["data"] == 100.0
    assert found["description"].endswith(" 0 left")


def test_another_temperature_keeps_shards_teachers_and_soft_labels(place: Place, extended: dict[str, Any]) -> None:
    other = ("--set", "study.transfer=[{loss: kl, temperature: 2.0}]")
    found = place.json(*ARGUMENTS, str(place.spec), "--seeds", "1", *other)
    kept = {stage["stage"]: stage["state"] for stage in found["stages"]}
    assert {state for title, state in kept.items() if title.partition(" ")[0] in ("ingest", "teach", "label")} == {
        "Cached"
    }


def test_an_unknown_arm_is_wrong_usage(place: Place) -> None:
    done = place.run("study", "unlabeled", str(place.spec), "--arms", "labells")
    assert done.returncode == 2
    assert "--arms labells: this study has" in done.stderr
