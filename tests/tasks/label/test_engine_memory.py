"""Speeds of engines, in a file below `STILLROOM_HOME`."""

from __future__ import annotations

import json
from pathlib import Path

from models.engines.trial_rule import EngineFigures
from tasks.label.engine_memory import FILE, remember_engines, remembered_engines


def test_engines_are_remembered_by_network_beside_others(home: Path) -> None:
    fast, slow = EngineFigures(100.0, 8, 7.5), EngineFigures(50.0, 4, 0.2)
    remember_engines("lite0", {"eager-float32": slow}, device="cpu", threads=2)
    remember_engines("lite0", {"openvino-float32": fast}, device="cpu", threads=2)
    remember_engines("resnet", {"eager-float32": slow}, device="cpu", threads=2)
    assert remembered_engines(device="cpu", threads=2) == {
        "lite0": {"eager-float32": slow, "openvino-float32": fast},
        "resnet": {"eager-float32": slow},
    }
    assert remembered_engines(device="cpu", threads=3) == {}


def test_damaged_figures_of_engines_are_left_out(home: Path) -> None:
    remember_engines("lite0", {"eager-float32": EngineFigures(50.0, 4, 0.2)}, device="cpu", threads=2)
    known = json.loads((home / FILE).read_text())
    (machine,) = known
    known[machine] |= {"a": 3, "b": {"eager-float32": "fast"}, "c": {"eager-float32": {"rate": -1.0, "batch": 1}}}
    (home / FILE).write_text(json.dumps(known))
    assert set(remembered_engines(device="cpu", threads=2)) == {"lite0"}
