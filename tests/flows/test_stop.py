"""A run that is interrupted ends soon, and leaves nothing running."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.long_run import LONG, forget_checkpoints, training
from tests.line import Place


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_soon(place: Place, first: dict[str, Any], number: signal.Signals) -> None:
    process = place.start("distill", str(place.spec), *LONG)
    place.wait_until(process, training)
    process.send_signal(number)
    assert process.wait(90) != 0
    _, alive = psutil.wait_procs(place.processes(), timeout=30)
    assert alive == []
    forget_checkpoints(place)


def test_a_spec_that_names_no_folder_changes_nothing(place: Place, first: dict[str, Any], tmp_path: Path) -> None:
    done = place.run(
        "retrain",
        str(place.spec),
        "--set",
        f"corpus.root={tmp_path / 'nowhere'}",
        "--set",
        "corpus.adapter=eyepacs",
        "--set",
        "corpus.phantom=null",
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
