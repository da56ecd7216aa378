"""Python environments of rivals: what another project needs is no dependency of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HOME = Path(".bench")
"""What benchmarks install for themselves."""


def python_with(name: str, *packages: str, ours: bool = True) -> Path | None:
    """The Python of an environment that has `packages`; made under .bench once, None where they cannot be had.

    Args:
        name: of the environment.
        packages: as pip names them.
        ours: whether all that this environment has is there too.
    """
    place = HOME / name
    python = (place / "bin" / "python").absolute()
    if not (place / "ready").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        if ours:
            (packages_of(python) / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=False)
        if done.returncode:
            print(f"{name} cannot be installed; its column stays empty", file=sys.stderr)
            return None
        (place / "ready").touch()
    return python


def packages_of(python: Path) -> Path:
    """The folder in which an environment's packages lie."""
    return next((python.parent.parent / "lib").glob("python*/site-packages"))
