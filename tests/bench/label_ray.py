"""Ray Data as its guide to batch inference has it: read_images, a map, and a pool of actors that hold the model.

    python -m tests.bench.label_ray DEVICE CPUS < PATHS

Runs in an environment that has ray (`tests/bench/label_rivals.py` makes it). Prints one line of JSON: images a second
from each actor's first batch to its last, so that nothing of starting is in it, and the classes by key.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from tests.bench.label_teacher import BATCH, input_of, load, plain, top1


def to_view(row: dict[str, Any]) -> dict[str, Any]:
    """The map: an image becomes a view."""
    return {"view": plain(row["image"]), "name": Path(row["path"]).stem}


class Teacher:
    """The actor: loads the model once, then is asked about batches."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.network = load(device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        found = top1(self.network, input_of(batch["view"]), self.device)
        when = np.full(len(found), time.monotonic())
        return {
            "name": batch["name"],
            "class": np.array(found),
            "when": when,
            "actor": np.full(len(found), os.getpid()),
        }


def pool_of(device: str, cpus: int) -> dict[str, Any]:
    """The actors: one a GPU, or one a core.

    Actors that reserve every core leave none to read with, and nothing ever starts (ray issue 44687); half a core
    each keeps all cores busy. On two cores this is faster than one actor with a core, or one with two threads.
    """
    if device == "cuda":
        return {"compute": ActorPoolStrategy(size=1), "num_gpus": 1}
    return {"compute": ActorPoolStrategy(size=cpus), "num_cpus": 0.5}


def rate(rows: list[dict[str, Any]]) -> float:
    """Images a second of all actors together, each from the end of its first batch to the end of its last."""
    ends: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        ends[row["actor"]].append(row["when"])
    total = 0.0
    for when in ends.values():
        first, last = min(when), max(when)
        after = sum(moment > first for moment in when)
        total += after / (last - first) if after else 0.0
    return total


def main() -> None:
    """Run and print."""
    device, cpus = sys.argv[1], int(sys.argv[2])
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="error")
    DataContext.get_current().enable_progress_bars = False
    images = ray.data.read_images(sys.stdin.read().split(), mode="RGB", include_paths=True)
    said = images.map(to_view).map_batches(
        Teacher, fn_constructor_args=(device,), batch_size=BATCH, **pool_of(device, cpus)
    )
    rows = said.take_all()
    print(json.dumps({"rate": rate(rows), "found": {row["name"]: int(row["class"]) for row in rows}}))


if __name__ == "__main__":
    main()
