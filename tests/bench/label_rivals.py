"""How others have a teacher label: one image after the other, a DataLoader, Ray Data; all in eager float32.

Each is given our fast decoding and rendering (Ray Data reads with its own), so that what is compared is how the work
is organised and run. None stores what it finds.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from tests.bench.environments import python_with
from tests.bench.label_teacher import BATCH, input_of, load, top1, view_of

RAY = "ray[data]==2.60.0"

Labelled = tuple[float, dict[str, int]]
"""Images a second, and the class found by key (the name of the file without its suffix)."""


class OneAtATime:
    """Read a file, ask about it, take the next: the labelling loop of autodistill."""

    def __init__(self, device: str) -> None:
        self.device, self.network = device, load(device)

    def label(self, paths: Sequence[Path]) -> Labelled:
        """Label files."""
        start = time.perf_counter()
        found = {p.stem: top1(self.network, input_of(view_of(p.read_bytes())[None]), self.device)[0] for p in paths}
        return len(paths) / (time.perf_counter() - start), found


class _Files(Dataset[tuple[torch.Tensor, str]]):
    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, str]:
        path = self.paths[number]
        return input_of(view_of(path.read_bytes())[None])[0], path.stem


class Loader:
    """A DataLoader of batches, as tutorials have it, with as many workers as serve it best here."""

    def __init__(self, device: str) -> None:
        self.device, self.network = device, load(device)
        self.workers = 0

    def choose(self, paths: Sequence[Path], cores: int) -> int:
        """Try no, one, two workers and one a core on some files, and keep the fastest."""
        rates = {}
        for self.workers in sorted({0, 1, 2, cores}):
            rates[self.workers] = self.label(paths)[0]
        self.workers = max(rates, key=lambda workers: rates[workers])
        return self.workers

    def label(self, paths: Sequence[Path]) -> Labelled:
        """Label files."""
        start = time.perf_counter()
        found: dict[str, int] = {}
        for x_B3SS, names in DataLoader(_Files(paths), batch_size=BATCH, num_workers=self.workers):
            found.update(zip(names, top1(self.network, x_B3SS, self.device), strict=True))
        return len(paths) / (time.perf_counter() - start), found


class RayData:
    """Ray Data in an environment of its own; starting it is not counted (see `tests/bench/label_ray.py`)."""

    def __init__(self, device: str, cpus: int) -> None:
        self.device, self.cpus = device, cpus
        self.python = python_with("ray", RAY)

    def label(self, paths: Sequence[Path]) -> Labelled | None:
        """Label files; None where ray cannot be had."""
        if self.python is None:
            return None
        command = [str(self.python), "-m", "infra.lifeline", "tests.bench.label_ray", self.device, str(self.cpus)]
        with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
            own = {"PYTHONPATH": str(Path.cwd()), "RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
            done = subprocess.run(
                command,
                input="\n".join(str(path.resolve()) for path in paths),
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, **own},
            )
        if done.returncode:
            raise RuntimeError(f"Ray Data failed:\n{done.stderr[-3000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        return float(answer["rate"]), answer["found"]
