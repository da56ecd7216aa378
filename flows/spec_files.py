"""Specs by path or by name."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from infra.errors import UsageError
from infra.settings import settings

SUFFIX = ".yaml"


def find_spec(given: str) -> Path:
    """The file of a spec.

    Args:
        given: a path, or a name: of a file in `STILLROOM_HOME/specs`, or of a packaged spec.

    Raises:
        UsageError: it is neither; the known names are listed.
    """
    path = Path(given).expanduser()
    if path.exists() or path.suffix:
        return path
    known = named_specs()
    if given not in known:
        raise UsageError(f"{given}: no such file, and no spec of that name; there are {', '.join(sorted(known))}")
    return known[given]


def named_specs() -> dict[str, Path]:
    """Name to file: the packaged specs, and those of this machine, which win."""
    packaged = Path(str(importlib.resources.files("flows").joinpath("specs")))
    folders = (packaged, packaged / "studies", settings().home / "specs")
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))}
