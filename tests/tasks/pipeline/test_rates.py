"""Rates of earlier runs, in a file below `STILLROOM_HOME`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from infra.machine import machine_kind
from tasks.pipeline import rates
from tasks.pipeline.rates import (
    FILE,
    INGEST,
    LABEL,
    ingest_details,
    label_details,
    remember_rate,
    remembered_rate,
)


def details(threads: int = 2, **other: Any) -> dict[str, Any]:
    fixed = {"size": 32, "classes": 3, "features": None, "engine": "auto", "precision": "auto", "batch": None}
    return label_details("micro", {"width": 8}, device="cpu", threads=threads, **{**fixed, **other})


def test_a_rate_is_found_by_its_details(home: Path) -> None:
    remember_rate(LABEL, details(), 10.0)
    remember_rate(LABEL, details(), 12.5)
    assert remembered_rate(LABEL, details()) == 12.5
    assert remembered_rate(LABEL, details(size=64)) is None
    assert remembered_rate(LABEL, details(threads=3)) is None
    assert remembered_rate(INGEST, ingest_details("c", {"size": 8}, workers=2)) is None


def test_the_file_is_by_kind_of_machine(home: Path) -> None:
    remember_rate(LABEL, details(), 10.0)
    assert list(json.loads((home / FILE).read_text())) == [machine_kind("cpu", 2)]
    assert [path.name for path in home.iterdir()] == [FILE]


def test_looking_up_writes_nothing(home: Path) -> None:
    assert remembered_rate(LABEL, details()) is None
    assert not home.exists()


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_a_damaged_file_counts_as_empty(home: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    home.mkdir()
    (home / FILE).write_text(text)
    assert remembered_rate(LABEL, details()) is None
    assert "counts as empty" in caplog.text
    remember_rate(LABEL, details(), 3.0)
    assert remembered_rate(LABEL, details()) == 3.0


def test_damaged_values_are_no_rates(home: Path) -> None:
    home.mkdir()
    name = rates._name(LABEL, details())
    for value in ({name: "fast"}, {name: -1}, {name: None}, "nothing"):
        (home / FILE).write_text(json.dumps({machine_kind("cpu", 2): value}))
        assert remembered_rate(LABEL, details()) is None
    remember_rate(LABEL, details(), 3.0)
    assert remembered_rate(LABEL, details()) == 3.0


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_only_positive_finite_values_are_written(home: Path, value: float) -> None:
    remember_rate(LABEL, details(), value)
    assert not (home / FILE).exists()


def test_the_oldest_rates_are_dropped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST", 2)
    for size in (1, 2, 1, 3):
        remember_rate(LABEL, details(size=size), float(size))
    assert [remembered_rate(LABEL, details(size=size)) for size in (1, 2, 3)] == [1.0, None, 3.0]


def test_a_home_that_cannot_be_written_is_only_a_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.write_text("a file where the folder should be")
    remember_rate(LABEL, details(), 3.0)
    assert "not remembered" in caplog.text
