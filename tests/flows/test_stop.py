"""A run that is asked to end by a signal ends soon, and leaves nothing running; Ctrl-C has tests of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from tests.flows.long_run import LONG, forget_checkpoints, training
from tests.line import Place


def test_a_terminated_run_ends_soon(place: Place, first: dict[str, Any]) -> None:
    process = place.start("distill", str(place.spec), *LONG)
    place.wait_until(process, training)
    process.terminate()
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
