"""The golden-output guard: what a stage makes of a fixed tiny input, kept per stage version.

Output moved and version did not: red. `STILLROOM_GOLDEN=write` writes what is new, never what moved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def check(stage: str, version: int, value: Any, folder: Path = FOLDER) -> None:
    """Compare a JSON value with `<stage>.v<version>.json`; AssertionError says what to do.

    Args:
        stage: name of the stage.
        version: its VERSION.
        value: what the stage made: digests, draws, small lists of numbers already rounded.
        folder: where the golden files lie.
    """
    path = folder / f"{stage}.v{version}.json"
    write = os.environ.get("STILLROOM_GOLDEN") == "write"
    value = json.loads(json.dumps(value))
    if not path.exists():
        assert write, f"{path.name} is not there; run this test with STILLROOM_GOLDEN=write and commit the file"
        path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert value == golden, (
        f"what stage {stage} makes moved, and its version is still {version}: bump the stage's version and run "
        f"with STILLROOM_GOLDEN=write, or undo what moved it. Moved: {_moved(golden, value)}"
    )


def _moved(golden: Any, value: Any) -> str:
    if isinstance(golden, dict) and isinstance(value, dict):
        names = sorted(k for k in golden.keys() | value.keys() if golden.get(k) != value.get(k))
        return ", ".join(names[:5])
    return "the value"
