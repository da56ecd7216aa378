"""`engine: auto` against each engine fixed, computed from set-up times and speeds that are measured side by side.

    python -m tests.bench.engine_figures

For machines on which `tests.bench.engine_jobs` would take too long, or where other work disturbs long runs. The set-up
of every engine and its speed on one thread are measured in rounds, all engines in each; the fastest of the rounds
counts. The times of labelling jobs follow from the rule that selects engines, with two workers of a thread each:
`auto` tries what the rule tries, with the expectations of a machine on which nothing was measured, or (`auto, known`)
on which the same network was. Decoding and rendering, alike for all, are left out, which makes the ratios larger.
The last line is JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import numpy as np

from models.engines.engine import Engine
from models.engines.experience import Experience
from models.engines.opening import open_engine
from models.engines.trial_rule import COMPARED, TIMING_S, Best, EngineFigures, Work, next_trial
from tests.bench.label_engines import network_of
from tests.bench.label_teacher import MODEL, SIDE

REFERENCE = "eager-float32"
ENGINES = (REFERENCE, "openvino-float32", "onnxruntime-float32")
ROUNDS, BATCH, WORKERS = 12, 8, 2
JOBS = (2_000, 20_000, 200_000)


def main() -> None:
    """Run and print."""
    figures = measured()
    for name, each in figures.items():
        print(f"{name:22}{each.rate:8.1f} images/s on one thread, set up in {each.set_up_s:.1f} s")
    tables: dict[str, dict[int, float]] = {name: {n: fixed_s(figures[name], n, name) for n in JOBS} for name in ENGINES}
    ways: dict[str, dict[int, list[str]]] = {}
    for name, known in (("auto", Experience()), ("auto, known", Experience("own", {"own": figures}))):
        found = {n: auto_s(figures, n, known) for n in JOBS}
        tables[name] = {n: seconds for n, (seconds, _) in found.items()}
        ways[name] = {n: tried for n, (_, tried) in found.items()}
    best = {n: min(tables[name][n] for name in ENGINES) for n in JOBS}
    print("seconds of a job, and over those of the best fixed engine")
    for name, row in tables.items():
        print(f"{name:22}" + "".join(f"{f'{s:.1f} ({s / best[n]:.2f})':>20}" for n, s in row.items()))
    ratios = {name: {n: round(s / best[n], 3) for n, s in row.items()} for name, row in tables.items()}
    rates = {name: [round(f.rate, 1), round(f.set_up_s, 2)] for name, f in figures.items()}
    print(json.dumps({"figures": rates, "seconds": tables, "ratios": ratios, "tried": ways}))


def measured() -> dict[str, EngineFigures]:
    """Set-up once each, then speeds in turns."""
    network = network_of(MODEL)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    opened: dict[str, tuple[Engine, float]] = {}
    for name in ENGINES:
        began = time.process_time()
        engine = open_engine(network, name, device="cpu", threads=1)
        # Seconds of the processor, which other work on the machine does not lengthen.
        opened[name] = engine, time.process_time() - began
        engine(images)
    fastest = dict.fromkeys(ENGINES, 0.0)
    for _ in range(ROUNDS):
        for name, (engine, _) in opened.items():
            began = time.process_time()
            engine(images)
            fastest[name] = max(fastest[name], BATCH / (time.process_time() - began))
    return {name: EngineFigures(fastest[name], BATCH, set_up_s) for name, (_, set_up_s) in opened.items()}


def fixed_s(figures: EngineFigures, answers: int, name: str) -> float:
    """Seconds with an engine that the spec names: it is compared and timed, then set up by the other workers."""
    work = Work(answers, WORKERS, figures.rate)
    if name == REFERENCE:
        return figures.set_up_s + work.seconds(figures.rate)
    return figures.set_up_s + COMPARED / figures.rate + TIMING_S + work.seconds(figures.rate, figures.set_up_s)


def auto_s(figures: Mapping[str, EngineFigures], answers: int, known: Experience) -> tuple[float, list[str]]:
    """Seconds where the rule decides, and the engines that it tries."""
    base = figures[REFERENCE].rate
    work, best, seconds = Work(answers, WORKERS, base), Best(base), figures[REFERENCE].set_up_s
    left, tried = [name for name in ENGINES if name != REFERENCE], list[str]()
    while True:
        prospects = [known.prospect(name, REFERENCE, device="cpu", file=False) for name in left]
        chosen = next_trial(prospects, work, best)
        if chosen is None:
            return seconds + work.seconds(best.rate, best.set_up_s), tried
        own = figures[chosen.engine]
        trial_s = own.set_up_s + COMPARED / own.rate + TIMING_S + (0 if tried else COMPARED / base + TIMING_S)
        seconds, work = seconds + trial_s, work.after(trial_s)
        if own.rate > best.rate:
            best = Best(own.rate, own.set_up_s)
        left.remove(chosen.engine)
        tried.append(chosen.engine)


if __name__ == "__main__":
    main()
