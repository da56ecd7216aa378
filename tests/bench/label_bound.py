"""What labelling cannot beat: decoding, rendering and the forward pass, each measured alone, nothing around it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from infra.compute.cluster_spec import WORKER_ENVIRONMENT
from models.augmentation.rendering import decode
from models.engines.opening import open_engine
from models.engines.runner import Runner
from tests.bench.apart import Apart
from tests.bench.label_engines import network_of
from tests.bench.label_teacher import MODEL, plain, view_of

CHUNK = 32  # images that are decoded, then rendered: they lie in cache as they do in a pipeline


class Bare:
    """The three loops, in one process."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads
        self.views = np.empty(0)
        cv2.setNumThreads(1)

    def prepare(self, paths: Sequence[Path], engine: str, batch: int) -> None:
        """Open the engine and keep the views that it is to be asked about."""
        opened = open_engine(network_of(MODEL), engine, device=self.device, threads=self.threads)
        self.runner = Runner(opened, batch)
        self.views = np.stack([view_of(path.read_bytes()) for path in paths])
        self.forward()

    def decode(self, paths: Sequence[Path]) -> float:
        """Seconds of reading and decoding."""
        start = time.perf_counter()
        for path in paths:
            decode(path.read_bytes())
        return time.perf_counter() - start

    def render(self, paths: Sequence[Path]) -> float:
        """Seconds of rendering plain views; decoding for it is not counted."""
        seconds = 0.0
        for first in range(0, len(paths), CHUNK):
            images = [decode(path.read_bytes()) for path in paths[first : first + CHUNK]]
            start = time.perf_counter()
            for image in images:
                plain(image)
            seconds += time.perf_counter() - start
        return seconds

    def forward(self) -> float:
        """Seconds of the forward pass over the views kept."""
        start = time.perf_counter()
        self.runner(self.views)
        return time.perf_counter() - start


class Bound:
    """The bare loops on all cores: decoding and rendering by a process a core, forward that way or by one process.

    The processes have the environment of Stillroom's workers: its memory settings alone make the eager engine a
    third faster.
    """

    def __init__(self, paths: Sequence[Path], device: str, cores: int) -> None:
        self.device, self.paths = device, paths
        self.parts = [paths[n::cores] for n in range(cores)]
        self.many = Apart(Bare, device, 1, processes=cores, environment=WORKER_ENVIRONMENT)
        self.one = Apart(Bare, device, cores, environment=WORKER_ENVIRONMENT)

    def wait(self) -> None:
        """Until the processes are there."""
        self.many.wait()
        self.one.wait()

    def prepare(self, engine: str, batch: int) -> None:
        """Open the engine that Stillroom chose."""
        if self.device == "cpu":
            self.many.each("prepare", [(part, engine, batch) for part in self.parts])
        self.one("prepare", self.paths, engine, batch)

    def seconds(self) -> dict[str, float]:
        """Seconds of each loop over all images: `decode`, `render`, and of `forward` the faster way."""
        jobs = [(part,) for part in self.parts]
        alone: float = self.one("forward")
        together = max(self.many.each("forward", [()] * len(jobs))) if self.device == "cpu" else alone
        return {
            "decode": max(self.many.each("decode", jobs)),
            "render": max(self.many.each("render", jobs)),
            "forward": min(alone, together),
        }

    def close(self) -> None:
        """End the processes."""
        self.many.close()
        self.one.close()


def least(seconds: dict[str, float], device: str) -> float:
    """Seconds that labelling takes at least: on a GPU the CPU's part hides behind it, or it behind the CPU's."""
    cpu = seconds["decode"] + seconds["render"]
    return max(cpu, seconds["forward"]) if device == "cuda" else cpu + seconds["forward"]
