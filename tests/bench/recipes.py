"""What recipes are worth on real photographs with scarce labels: teachers, students, starts, phases.

    python -m tests.bench.recipes [--folder DIR] [--sets a,b] [--plan look] [--device cuda] [--limit SECONDS] [--quick]

Needs STILLROOM_REAL_DATA, or a folder that it wrote before. It is made for a GPU (see `tests.bench.graph_trainings`);
a CPU runs the same trainings one by one. Results go to DIR/results as a line of JSON a training, probabilities beside
them; a run that was cut goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from multiprocessing import get_context
from pathlib import Path

import torch

from infra.errors import UsageError
from infra.freed_memory import keep_freed_memory
from tests.bench.graph_trainings import choose_layout
from tests.bench.recipes_corpora import SETS, write
from tests.bench.recipes_data import read
from tests.bench.recipes_plans import PLANS
from tests.bench.recipes_runs import MODELS, Corpus


def main() -> None:
    """Run one process a set."""
    given = _arguments()
    folder = Path(given.folder)
    names = given.sets.split(",")
    for name in names:
        if (folder / name / "labels.csv").is_file():
            continue
        try:
            write(name, folder / name)
        except UsageError as error:
            print(f"nothing was measured: {error}")
            print(json.dumps({"figures": {}, "ratios": {}}))
            return
    (folder / "results").mkdir(parents=True, exist_ok=True)
    until = time.time() + given.limit
    context = get_context("spawn")
    processes = [context.Process(target=_one, args=(name, given, until)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(json.dumps({"figures": {"failed": sum(process.exitcode != 0 for process in processes)}, "ratios": {}}))


def _one(name: str, given: argparse.Namespace, until: float) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    start = time.time()
    if given.device == "cuda":
        layouts = choose_layout(MODELS["cut60k"].build(2, 0).module, 128, 32)
        print(f"{name}: ms a step by layout: {layouts}", flush=True)
    folder = Path(given.folder)
    plan = PLANS[given.plan]
    slots = given.slots if given.device == "cuda" else 1
    if given.threads:
        torch.set_num_threads(given.threads)
    pictures = read(
        name,
        folder / name,
        views=given.views,
        fresh=given.fresh,
        sides=plan.sides,
        processes=max(1, (os.cpu_count() or 1) // 3),
    )
    print(f"{name}: rendered in {time.time() - start:.0f} s", flush=True)
    corpus = Corpus(name, pictures, given.device, folder / "results" / f"{name}.jsonl", until, slots)
    with keep_freed_memory():
        plan.run(corpus, given)
    print(f"{name}: {len(corpus.probs)} results, {corpus.left_out} left out, {time.time() - start:.0f} s", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=str(Path(os.environ.get("STILLROOM_BENCH", ".bench")) / "recipes"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--plan", choices=PLANS, default="table")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no training begins")
    parser.add_argument("--slots", type=int, default=8, help="trainings of a set side by side on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="of a set on a CPU; default all")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--fresh", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--factor", type=float, default=1.0, help="of all steps")
    parser.add_argument("--quick", action="store_true", help="few views, few steps, one set: shows that it works")
    given = parser.parse_args()
    if given.quick:
        given.views, given.fresh, given.factor, given.seeds, given.sets = 2, 2, 0.01, 1, "imo"
    return given


if __name__ == "__main__":
    main()
