"""The contenders of a labelling benchmark, warmed up, and the rounds in which they take turns."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from tests.bench.apart import Apart
from tests.bench.label_bound import Bound, least
from tests.bench.label_ours import Stillroom
from tests.bench.label_rivals import Loader, OneAtATime, RayData

RIVALS = ("one_at_a_time", "dataloader", "ray_data")
NAMES = (*RIVALS, "stillroom", "bound", "one_worker", "two_workers")
SHARDS = 4  # a core
AGAIN = 2  # times a round that what is fast is measured

FEW, SOME = 16, 32  # images to warm up with, and to choose the workers of a DataLoader with


class Contest:
    """Every contender on the same images; leaving it ends their processes.

    Args:
        place: an empty folder but for `corpus`, as `tests.bench.label_ours.lay_out` makes it.
        passes: forward passes for which Stillroom chooses its engine; the more, the more it tries.
    """

    def __init__(self, paths: list[Path], place: Path, device: str, passes: int) -> None:
        self.paths, self.device, self.passes = paths, device, passes
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.parts: dict[str, list[float]] = defaultdict(list)
        self.busy: list[float] = []
        self.found: dict[str, dict[str, int]] = {}
        self.facts: dict[str, Any] = {}
        self._known = (place / "corpus", place / "store", device)
        self._stack = ExitStack()

    def __enter__(self) -> Contest:
        with self._stack:
            self._warm_up()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for contender in self._ours.values():
            contender.join()

    def _warm_up(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._cores = len(cores)
        ours = self._stillroom(cores)
        self._one = self._stack.enter_context(Apart(OneAtATime, self.device))
        self._loader = self._stack.enter_context(Apart(Loader, self.device))
        self._limit = Bound(self.paths, self.device, len(cores))
        self._stack.callback(self._limit.close)
        self._ray = RayData(self.device, len(cores))
        ours.wait()
        self._ours = {"stillroom": ours}
        if self.device == "cpu":
            # Only now: they find the corpus ingested.
            pinned = {"one_worker": 1, "two_workers": 2}.items()
            self._ours |= {name: self._stillroom(cores[:count]) for name, count in pinned if count < len(cores)}
        started: list[Apart | Bound] = [*self._ours.values(), self._one, self._loader, self._limit]
        for each in started:
            each.wait()
        self.facts["stillroom_first"] = round(ours("first"), 1)
        settled = {name: contender("settle", self.passes) for name, contender in self._ours.items()}["stillroom"]
        self.facts["choosing_s"], self.tried = round(settled["seconds"], 1), settled["tried"]
        engine = ours("label")["engine"]
        self.facts |= {"engine": engine["engine"], "batch": engine["batch"]}
        self._limit.prepare(engine["engine"], engine["batch"])
        self._one("label", self.paths[:FEW])
        self.facts["dataloader_workers"] = self._loader("choose", self.paths[:SOME], len(cores))

    def _stillroom(self, cores: list[int]) -> Apart:
        per_shard = max(1, len(self.paths) // (SHARDS * self._cores))
        return self._stack.enter_context(Apart(Stillroom, *self._known, per_shard, cores=cores))

    def round(self) -> None:
        """Everyone once, what is fast again."""
        for name, answer in (
            ("one_at_a_time", self._one("label", self.paths)),
            ("dataloader", self._loader("label", self.paths)),
            ("ray_data", self._ray.label(self.paths)),
        ):
            if answer is not None:
                self.rates[name].append(answer[0])
                self.found[name] = answer[1]
        for _ in range(AGAIN):
            seconds = self._limit.seconds()
            self.rates["bound"].append(len(self.paths) / least(seconds, self.device))
            for name, value in seconds.items():
                self.parts[name].append(value)
            for name, contender in self._ours.items():
                told = contender("label")
                self.rates[name].append(told["rate"])
                if told["busy"] is not None:
                    self.busy.append(told["busy"])
        self.found["stillroom"] = self._ours["stillroom"]("found")

    def figures(self) -> dict[str, Any]:
        """Medians: images a second by contender, milliseconds an image of the bare loops, and what was chosen.

        `agreement` is the share of images for which a contender finds the class that one image at a time finds.
        """
        rates: dict[str, float | None] = {name: None for name in NAMES}
        rates |= {name: round(median(each), 1) for name, each in self.rates.items()}
        # On a machine with one core or two it was measured already.
        few = {1: "one_worker", 2: "two_workers"}.get(self._cores)
        if few is not None and self.device == "cpu":
            rates[few] = rates["stillroom"]
        count = len(self.paths)
        parts = {f"{name}_ms": round(1000 * median(each) / count, 3) for name, each in self.parts.items()}
        busy = {"gpu_busy_percent": median(self.busy)} if self.busy else {}
        truth = self.found["one_at_a_time"]
        agreement = {
            name: round(sum(truth[key] == value for key, value in each.items()) / count, 3)
            for name, each in self.found.items()
        }
        return {**rates, **parts, **self.facts, **busy, "agreement": agreement}
