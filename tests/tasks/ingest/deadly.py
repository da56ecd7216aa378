"""A decoder that certain files kill: processes get it from an environment that imports this module at their start."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import cv2
import numpy as np

ALONE, IN_WORKER = b"kills its decoder", b"kills a Dask worker alone"


def install() -> None:
    """Kill this process when OpenCV is to decode a file with the mark ALONE, or, in a Dask worker, IN_WORKER."""
    decode = cv2.imdecode

    def deadly(data: np.ndarray, flags: int) -> np.ndarray | None:
        content = data.tobytes()
        if ALONE in content or (IN_WORKER in content and multiprocessing.parent_process() is not None):
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(data, flags)

    cv2.imdecode = deadly


def mark(path: Path, text: bytes) -> None:
    """Put a comment into a JPEG file; its pixels stay."""
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:])


def environment(folder: Path) -> dict[str, str]:
    """Variables with which each new Python process calls `install` first.

    Args:
        folder: an empty one, for the module that Python imports when it starts.
    """
    root = Path(__file__).parents[3]
    (folder / "sitecustomize.py").write_text("from tests.tasks.ingest.deadly import install\n\ninstall()\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(root), os.environ.get("PYTHONPATH", "")])}
