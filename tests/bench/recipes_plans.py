"""Which trainings are run: a wide look with few seeds, and the table of what it chose with all."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tests.bench.recipes_runs import Corpus, Run


@dataclass(frozen=True)
class Plan:
    """What is trained, and the sides of the images in pixels that it needs."""

    sides: tuple[int, ...]
    run: Callable[[Corpus, argparse.Namespace], None]


def _scaled(runs: Iterator[Run], factor: float) -> list[Run]:
    return [replace(run, steps=max(10, round(run.steps * factor))) for run in runs]


TEACHERS = {
    "t_init": Run("teacher", "lite0", 0, 224, 200, 5e-4, batch=16),
    "t_long": Run("teacher", "lite0", 0, 224, 500, 5e-4, batch=32),
    "t_slow_early": Run("teacher", "lite0", 0, 224, 500, 1e-3, batch=32, early_rate=0.2),
    "t_best": Run("teacher", "lite0", 0, 224, 500, 5e-4, batch=32, keep="best"),
}


def _look(corpus: Corpus, given: argparse.Namespace) -> None:
    best, value = "", float("inf")
    for name, run in TEACHERS.items():
        corpus.members = []
        corpus.run(_scaled((replace(run, seed=seed) for seed in range(given.seeds)), given.factor))
        members = corpus.members
        corpus.teach(f"{name} x1", members[:1])
        corpus.teach(f"{name} x{given.seeds}", members)
        found = corpus.last["val_ce"]
        if found < value:
            best, value = f"{name} x{given.seeds}", found
    for seed in range(2):
        corpus.run(_scaled(_look_students(best, seed), given.factor))


def _look_students(teacher: str, seed: int) -> Iterator[Run]:
    for model in ("cut60k", "micro", "cut1m"):
        rates = (1e-3, 3e-3) if model != "micro" else (3e-3, 1e-2)
        base = Run("labels", model, seed, 160, 600, rates[0])
        for lr in rates:
            yield replace(base, lr=lr)
            yield replace(base, arm="joint", teacher=teacher, steps=1600, lr=lr)
        yield replace(base, arm="oracle", steps=1000)
        yield replace(base, arm="joint", teacher=teacher, steps=600)
        for arm in ("transfer", "two_phase", "two_phase_kd"):
            yield replace(base, arm=arm, teacher=teacher, steps=1600)
    base = Run("joint", "cut60k", seed, 160, 1000, 1e-3, teacher)
    alone = replace(base, arm="labels", teacher="", steps=600)
    yield base
    yield replace(base, targets="mean")
    yield replace(base, temperature=2.0)
    yield replace(base, temperature=4.0)
    yield replace(base, on_teacher=4.0)
    yield replace(base, early_rate=0.2)
    yield replace(base, labelled_half=True)
    yield replace(base, side=224)
    yield replace(alone, side=224)
    yield replace(alone, early_rate=0.2)
    yield replace(alone, steps=200)
    yield replace(alone, keep="best")
    for model in ("cut60k_random", "cut52k", "cut300k"):
        yield replace(base, model=model)
        yield replace(alone, model=model)


SIDE, STEPS = 128, 1000
"""Of the students of the table: pixels, and optimiser steps of 32 images in every arm."""

TEACHER = Run("teacher", "lite0", 0, 224, 300, 1e-3, batch=24, early_rate=0.2)
RATES = {"cut60k": (1e-3, 3e-3), "micro": (3e-3, 1e-2)}


def _table(corpus: Corpus, given: argparse.Namespace) -> None:
    if "teacher x3" not in corpus.teachers:
        corpus.run(_scaled((replace(TEACHER, seed=seed) for seed in range(3)), given.factor))
        corpus.teach("teacher x3", corpus.members)
    corpus.members = []
    rates: dict[str, float] = {}
    for model, few in RATES.items():
        taken: dict[float, float] = {}
        for lr in few:
            corpus.run(_scaled(_arms(model, 0, lr, arms=("joint mean",)), given.factor))
            taken[lr] = corpus.last["val_ce"]
        rates[model] = min(taken, key=lambda lr: taken[lr])
        corpus.run(_scaled(_arms(model, 0, rates[model], arms=FIRST_ARMS), given.factor))
    for model in ("cut60k_random", "cut1m"):
        rates[model] = rates["cut60k"]
    for seed in range(1, 5):
        rest = [("cut60k", ("joint mean", *FIRST_ARMS)), ("micro", ("joint mean", *FIRST_ARMS))]
        if seed <= 2:
            rest += [("cut60k_random", ("joint mean", "labels")), ("cut1m", ("joint mean", "labels"))]
            rest += [("cut60k", ("transfer mean", "two_phase_kd mean"))]
        corpus.run(
            _scaled((run for model, arms in rest for run in _arms(model, seed, rates[model], arms)), given.factor)
        )


FIRST_ARMS = ("labels", "two_phase mean", "oracle", "joint view")


def _arms(model: str, seed: int, lr: float, arms: Sequence[str]) -> Iterator[Run]:
    for name in arms:
        arm, _, targets = name.partition(" ")
        teacher = "teacher x3" if targets else ""
        yield Run(arm, model, seed, SIDE, STEPS, lr, teacher, batch=32, targets=targets or "view")


PLANS = {"look": Plan((160, 224), _look), "table": Plan((SIDE, 224), _table)}
