"""`stillroom study`: a small one, run, run again, and extended by a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.line import Place

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
run: {device: cpu, cluster: {workers: 2}}
"""

ARGUMENTS = ("study", "unlabeled", "--arms", "labels")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    return Place(tmp_path_factory.mktemp("study"), text=SPEC, api=prefect_server)


@pytest.fixture(scope="module")
def plan(place: Place) -> dict[str, Any]:
    """Before anything is made."""
    return place.json(*ARGUMENTS, str(place.spec), "--seeds", "1", "--plan")


@pytest.fixture(scope="module")
def made(place: Place, plan: dict[str, Any]) -> dict[str, Any]:
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


def test_every_kind_of_output_is_there(made: dict[str, Any]) -> None:
    assert set(made["outputs"]) == {
        *("report", "figures", "csv", "tex", "png", "svg"),
        *("curves_csv", "curves_png", "curves_svg"),
    }


def test_one_more_seed_trains_that_seed_alone(extended: dict[str, Any]) -> None:
    new = [stage["stage"] for stage in extended["stages"] if stage["state"] != "Cached"]
    assert new
    assert all(title == "evaluate" or title.endswith("seed 1") for title in new)


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
