"""What leaves the machine for MLflow, and what does not."""

from __future__ import annotations

from typing import Any

from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.register.mlflow_run import curve, figures, parameters, verdict_tags
from tests.tasks.trained import tiny_spec


def test_parameters_are_flat_and_hold_no_place(store: LocalStore) -> None:
    found = parameters(tiny_spec(store, "teachers.0.weights=/secret/place/w.pth", "student.weights=pypi"))
    assert found["views.size"] == "224"
    assert found["teachers.0.model"] == "micro"
    assert (found["teachers.0.weights"], found["student.weights"]) == ("file", "pypi")
    assert not [k for k in found if k == "store" or k.startswith("run") or k == "corpus.root"]
    assert not [v for v in found.values() if "secret" in v or store.url in v]


def test_a_private_corpus_keeps_its_files_to_itself(store: LocalStore) -> None:
    spec = tiny_spec(
        store,
        "corpus.private=true",
        "corpus.table={csv: clinic-of-smith.csv, image: file, label: grade}",
        "corpus.classes=[a, b]",
        adapter="table",
    )
    assert not [v for v in parameters(spec).values() if "smith" in v]


def test_a_curve_is_numbers_by_step() -> None:
    rows = [{"epoch": 0.5, "step": 5, "loss": 1.5}, {"epoch": 0.9, "step": 9, "loss": float("nan"), "note": "x"}]
    assert curve(rows) == [("epoch", 0.5, 5), ("loss", 1.5, 5), ("epoch", 0.9, 9)]


def _report(gap: dict[str, Any]) -> Manifest:
    row = {"seeds": [4], "per_seed": [{"macro_f1": 0.5, "mcc": None}], "values": {"macro_f1": 0.5}}
    facts = {
        "metric": "macro_f1",
        "arms": {"taught": row},
        "difference": None,
        "gap_closed": gap,
        "against_majority": {"better": False},
        "headline": ["The student is no better than the majority.", "No gap to close."],
    }
    return Manifest(stage="evaluate", version=3, key="k", inputs=[], section={}, outputs=[], facts=facts)


def test_the_gap_closed_is_a_metric_and_a_tag() -> None:
    share = {"value": 0.4, "interval": [0.25, 0.5]}
    report = _report({"gap": {"value": 0.2, "interval": [0.1, 0.3]}, "arms": {"taught": share}, "reason": None})
    found = figures(report, "taught", 4)
    assert (found["gap"], found["gap_closed/taught"]) == (0.2, 0.4)
    assert (found["gap_closed/taught_low"], found["gap_closed/taught_high"]) == (0.25, 0.5)
    assert "test_mcc" not in found
    assert verdict_tags(report, "taught")["stillroom.gap_closed"] == "0.400 [0.250, 0.500]"


def test_no_gap_is_a_tag_and_no_metric() -> None:
    report = _report({"gap": {"value": 0.0, "interval": None}, "arms": {}, "reason": "no gap to close"})
    assert "gap_closed/taught" not in figures(report, "taught", 4)
    tags = verdict_tags(report, "taught")
    assert tags["stillroom.gap_closed"] == "no gap to close"
    assert tags["stillroom.better_than_majority"] == "no"
    assert tags["stillroom.headline"].startswith("The student is no better than the majority.")


def test_files_that_teach_are_named_by_their_kind_alone(store: LocalStore) -> None:
    teachers = "teachers=[{name: a, model: 'onnx:/secret/a.onnx', mean: [0, 0, 0], std: [1, 1, 1]}]"
    assert parameters(tiny_spec(store, teachers))["teachers.0.model"] == "onnx"
