"""Training side by side: one student, the same images, views and cores, one run.

    python -m tests.bench.distill [--quick] [--device cuda] [--teacher NAME]

The student is `micro` at 224 px in batches of 32, the teacher EfficientNet-Lite0, on a GPU ResNet-152; any timm name
may be given (all but Lite0 have random weights: they cost the same). How much stored labels gain depends on what the
teacher costs beside the student. On a GPU Stillroom runs in bfloat16 and compiled besides.

A table for people, then one line of JSON: images a second under `figures`, ours (with stored labels) over theirs under
`ratios`, and the same by CPU time under `cpu_ratios`: where other programs use the cores too, the latter are to be
believed. `STILLROOM_BENCH` names a folder to keep the images in between runs.

What labelling costs is not in the epochs: it is paid once for any number of epochs, students, losses and seeds, and
stands beside as `labelling_s`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from infra.compute.cluster import cores
from tests.bench.distill_contest import Contest
from tests.bench.distill_task import BATCH, LARGE_TEACHER, SIDE, STUDENT, TEACHER, Task, make_teacher
from tests.bench.images import HEIGHT, make_images

RATIOS = ("online", "torchdistill", "timm", "no_teacher", "bound")

_WORDS = {
    "timm": "timm, teacher online",
    "torchdistill": "torchdistill, teacher online",
    "online": "Stillroom, teacher online",
    "no_teacher": "Stillroom, labels alone",
    "stored": "Stillroom, stored labels",
    "bfloat16": "  in bfloat16",
    "compiled": "  in bfloat16, compiled",
    "bound": "bare loops",
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--teacher", help="a timm name")
    asked = parser.parse_args()
    count, rounds, workers = (64, 1, (1,)) if asked.quick else (512, 3, (0, 1, 2))
    if asked.device == "cuda" and not asked.quick:
        count, workers = 4096, (2, 4, cores())
    model = asked.teacher or (LARGE_TEACHER if asked.device == "cuda" else TEACHER)
    with tempfile.TemporaryDirectory(prefix="stillroom-bench-") as scratch:
        paths = make_images(Path(os.environ.get("STILLROOM_BENCH", scratch)) / "images", count)
        weights = make_teacher(model, Path(scratch) / "teacher.safetensors")
        print(
            f"{count} JPEGs {HEIGHT} px high, {STUDENT} at {SIDE} px in batches of {BATCH}, teacher {model}, "
            f"on {asked.device}, {cores()} cores"
        )
        task = Task(tuple(paths), model, weights, asked.device, cores())
        with Contest(task, Path(scratch) / "ours", workers, 1 if asked.quick else 2) as contest:
            for _ in range(rounds):
                contest.round()
            figures = contest.figures()
    ratios = {name: _ratio(figures["stored"], figures.get(name)) for name in RATIOS}
    work = figures["cpu_ms"]
    cpu_ratios = {name: _ratio(work[name], work["stored"]) if name in work else None for name in RATIOS}
    _show(figures, ratios)
    print(json.dumps({"figures": figures, "ratios": ratios, "cpu_ratios": cpu_ratios}))


def _ratio(value: float, by: float | None) -> float | None:
    return round(value / by, 3) if by else None


def _show(figures: dict[str, Any], ratios: dict[str, float | None]) -> None:
    for name, words in _WORDS.items():
        if name not in figures:
            continue
        ratio, loss, waiting = ratios.get(name), figures["loss"].get(name), figures["waiting"].get(name)
        print(
            f"{words:30}{figures[name]:8.1f} images/s  {figures['cpu_ms'][name]:7.2f} ms of CPU an image"
            + (f"   stored labels over it {ratio:6.2f}" if ratio else " " * 31)
            + (f"   loss {loss:.3f}" if loss else "")
            + (f"   waiting for data {waiting:.0%}" if waiting is not None else "")
        )
    bare = ", ".join(f"{name} {figures[f'bare_{name}_ms']}" for name in ("decode", "view", "input", "step"))
    print(f"bare loops on all cores, ms an image: {bare}")
    for kind in ("stored", "online", "no_teacher"):
        print(
            f"Stillroom, {_WORDS[kind].partition(', ')[2]}, ms an image: loading by one thread "
            f"{figures[f'{kind}_load_ms']}, step on batches that are ready {figures[f'{kind}_step_ms']}"
        )
    print(f"labelling all views once: {figures['labelling_s']} s; rivals chose {figures['chosen']}")


if __name__ == "__main__":
    main()
