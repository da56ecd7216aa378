"""A network as engines take it, and the bare forward pass on every engine that is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from models.engines.benchmark import ImageSample
from models.engines.engine import Network
from models.engines.selection import Wanted, select_engine
from models.networks.build import build
from tests.bench.label_teacher import CLASSES, MODEL, view_of

SAMPLE = 64  # images that engines are compared on


def network_of(model: str) -> Network:
    """A network as engines take it; the teacher's has its real weights, others are random."""
    built = build(model, num_classes=CLASSES, pypi=model == MODEL)
    return Network(built.input_size, built.mean, built.std, CLASSES, module=built.module)


class Engines:
    """Measures in a process of its own."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads

    def tried(self, model: str, paths: Sequence[Path], passes: int) -> list[dict[str, Any]]:
        """A row an engine that is worth its start for so many passes: its rate at its best batch, its agreement."""
        views = np.stack([view_of(path.read_bytes()) for path in paths[:SAMPLE]])
        sample = ImageSample(len(views), lambda start, stop: views[start:stop])
        selected = select_engine(network_of(model), sample, Wanted(self.device, self.threads, passes))
        return [asdict(row) for row in selected.choice.tried]
