"""What a later stage would end with is found before the first one begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.run import run_line
from infra.errors import UsageError
from tests.tasks.planning.test_network_check import spec_with


def test_a_network_that_cannot_be_fed_ends_a_run_before_its_ingest(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"student taught: .*options\.in_chans 1"):
        run_line(spec_with(tmp_path, {"options": {"in_chans": 1}}), "register")
    assert not (tmp_path / "store").exists()


def test_a_log_of_predictions_that_is_not_there_ends_a_run_before_its_ingest(home: Path, tmp_path: Path) -> None:
    spec = spec_with(tmp_path, {})
    spec = spec.model_copy(update={"drift": spec.drift.model_copy(update={"predictions": str(tmp_path / "log")})})
    with pytest.raises(UsageError, match=r"drift\.predictions: there is no file or folder"):
        run_line(spec, "register")
    assert not (tmp_path / "store" / "manifests").exists()
