"""The section `drift:` of a spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.line import line
from infra.errors import SpecError
from infra.storage.store import LocalStore
from tasks.drift.signals import MEANINGS
from tasks.register.mlflow_run import parameters
from tasks.spec import load_spec
from tasks.spec.drift import DriftLimits, DriftSection
from tests.tasks.trained import SPEC, tiny_spec


def test_every_limit_says_what_it_means_and_what_to_do() -> None:
    assert set(MEANINGS) == set(DriftLimits.model_fields)


def test_where_the_log_lies_and_what_the_gate_makes_of_it_are_no_other_comparison() -> None:
    moved = DriftSection(predictions="/elsewhere/log.parquet", hold=False)
    assert moved.identity() == DriftSection().identity()
    assert DriftSection(alpha=0.01).identity() != DriftSection().identity()


def test_a_log_is_found_beside_the_spec_and_its_place_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(store="store", adapter="eyepacs").replace("{{", "{").replace("}}", "}"))
    spec = load_spec(path, ["drift.predictions=logs/july.parquet"])
    assert spec.drift.predictions == str(tmp_path / "logs/july.parquet")
    assert parameters(spec)["drift.predictions"] == "a log"
    assert load_spec(path, ["drift.predictions=store:logs/july.parquet"]).drift.predictions == "store:logs/july.parquet"


def test_drift_stands_between_export_and_gate_and_can_be_left_out(store: LocalStore) -> None:
    titles = [step.title for step in line(tiny_spec(store)).steps]
    assert titles[titles.index("export") : titles.index("gate") + 1] == ["export", "drift", "gate"]
    left = line(tiny_spec(store, "drift.enabled=false"))
    assert "drift" not in [step.title for step in left.steps]
    assert "drift" not in next(step for step in left.steps if step.title == "gate").inputs


def test_a_limit_is_a_share(store: LocalStore) -> None:
    with pytest.raises(SpecError, match=r"drift\.limits\.camera"):
        tiny_spec(store, "drift.limits.camera=1.5")
