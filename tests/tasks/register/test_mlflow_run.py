"""What leaves the machine for MLflow, and what does not."""

from __future__ import annotations

from infra.storage.store import LocalStore
from tasks.register.mlflow_run import curve, parameters
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


def test_files_that_teach_are_named_by_their_kind_alone(store: LocalStore) -> None:
    teachers = "teachers=[{name: a, model: 'onnx:/secret/a.onnx', mean: [0, 0, 0], std: [1, 1, 1]}]"
    assert parameters(tiny_spec(store, teachers))["teachers.0.model"] == "onnx"
