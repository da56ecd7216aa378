"""Labelling side by side: one teacher, the same images and cores, one run.

    python -m tests.bench.label [--quick]

The teacher is EfficientNet-Lite0 at 224 px with its ImageNet weights, the view is the plain one. A table for people,
then one line of JSON: images a second under `figures`, ours over theirs under `ratios`. `STILLROOM_BENCH` names a
folder to keep the images in between runs. Where there is a GPU all contenders use it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from infra.compute.cluster import cores
from tests.bench.apart import Apart
from tests.bench.images import HEIGHT, make_images
from tests.bench.label_contest import RIVALS, Contest
from tests.bench.label_engines import Engines
from tests.bench.label_ours import lay_out
from tests.bench.label_teacher import MODEL

SHORT, LONG = 10**4, 10**9
"""Forward passes for which the teacher's engine is chosen: with few, what takes long to set up is not tried."""

OTHER, PASSES = "resnet50", 2 * 10**4  # with random weights, for its bare forward pass alone; compiling is left out

_WORDS = {
    "one_at_a_time": "one at a time, eager",
    "dataloader": "DataLoader, eager",
    "ray_data": "Ray Data, eager",
    "stillroom_first": "Stillroom, first run",
    "stillroom": "Stillroom",
    "bound": "bare loops",
    "one_worker": "Stillroom, 1 worker on 1 core",
    "two_workers": "Stillroom, 2 workers on 2",
}


def main() -> None:
    """Run and print."""
    quick = "--quick" in sys.argv
    count, rounds, passes = (96, 1, SHORT) if quick else (256, 3, LONG)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory(prefix="stillroom-bench-") as scratch:
        paths = make_images(Path(os.environ.get("STILLROOM_BENCH", scratch)) / "images", count)
        size = sum(path.stat().st_size for path in paths) / count / 1e3
        print(f"{count} JPEGs {HEIGHT} px high, {size:.0f} kB each; {MODEL} on {device}, {cores()} cores")
        lay_out(Path(scratch) / "corpus", paths)
        with Contest(paths, Path(scratch), device, passes) as contest:
            for _ in range(rounds):
                contest.round()
            figures = {**contest.figures(), "engines": {MODEL: contest.tried}}
            if not quick:
                with Apart(Engines, device, 1) as engines:
                    figures["engines"][OTHER] = engines("tried", OTHER, paths, PASSES)
    ratios = {name: _ratio(figures["stillroom"], figures[name]) for name in (*RIVALS, "bound")}
    ratios["two_workers"] = _ratio(figures["two_workers"], figures["one_worker"])
    _show(figures, ratios)
    print(json.dumps({"figures": figures, "ratios": ratios}))


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours and theirs else None


def _show(figures: dict[str, Any], ratios: dict[str, float | None]) -> None:
    for name, words in _WORDS.items():
        value, ratio, same = figures[name], ratios.get(name), figures["agreement"].get(name)
        print(
            f"{words:30}"
            + (f"{value:8.1f} images/s" if value else "       -         ")
            + (f"   ours over it {ratio:6.2f}" if ratio and name != "two_workers" else "")
            + (f"   same class as one at a time: {same:.1%}" if same else "")
        )
    print(f"two workers over one: {ratios['two_workers']}")
    print(
        f"bare loops, ms an image: decode {figures['decode_ms']}, render {figures['render_ms']}, "
        f"forward {figures['forward_ms']} ({figures['engine']}, batches of {figures['batch']})"
    )
    print(
        "Stillroom is timed as in a long run: workers up, teacher loaded, engine chosen; its first run has the loading "
        f"and a short choice in it. A long run's choice takes {figures['choosing_s']} s once for a kind of machine."
    )
    for model, rows in figures["engines"].items():
        print(f"{model}, bare forward" + (" with one thread:" if figures["one_worker"] else ":"))
        for row in sorted(rows, key=lambda row: -(row["images_per_second"] or 0)):
            told = (
                f"{row['images_per_second']:8.1f} images/s, batches of {row['batch']}" if row["batch"] else "       -"
            )
            print(f"  {row['engine']:22}{told}  {row['why_not'] or ''}")


if __name__ == "__main__":
    main()
