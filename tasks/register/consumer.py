"""The code that travels with a registered model: `pyfunc.py` and the check of its archive, as one file."""

from __future__ import annotations

from importlib.resources import files

IMPORT = "from models.networks.graph_archive import load_graph\n"
"""The line of `pyfunc.py` that the text of that module takes the place of."""


def consumer_code() -> str:
    """Python source that imports numpy, torch, mlflow and the standard library alone."""
    student = files("tasks.register").joinpath("pyfunc.py").read_text(encoding="utf-8")
    archive = files("models.networks").joinpath("graph_archive.py").read_text(encoding="utf-8")
    before, found, after = student.partition(IMPORT)
    assert found, "pyfunc.py no longer imports the check of its archive"
    return f"{before}{archive}{after}"
