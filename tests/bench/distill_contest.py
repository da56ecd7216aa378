"""The contenders of a training benchmark, warmed up, and the rounds in which they take turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from infra.compute.cluster_spec import WORKER_ENVIRONMENT
from tests.bench.apart import Apart
from tests.bench.distill_bound import Bound, least
from tests.bench.distill_ours import KINDS, Mode, Stillroom
from tests.bench.distill_rivals import TORCHDISTILL, Timm, TorchDistill
from tests.bench.distill_task import BATCH, Pace, Task
from tests.bench.environments import packages_of, python_with

SOME = 6  # steps to choose a rival's settings by, and to time parts by

FASTER = {"bfloat16": Mode("bfloat16"), "compiled": Mode("bfloat16", compile=True)}
"""On a GPU: further runs on stored labels."""


class Contest:
    """Every contender on the same images; leaving it ends their processes.

    All have the memory settings of Stillroom's workers: without them every training on CPUs is slower.

    Args:
        place: an empty folder.
        workers: of the rivals' loaders, to choose from.
        again: times a round that what is fast is measured.
    """

    def __init__(self, task: Task, place: Path, workers: Sequence[int], again: int) -> None:
        self.task, self.place, self.workers, self.again = task, place, workers, again
        self.paces: dict[str, list[Pace]] = defaultdict(list)
        self.parts: dict[str, list[float]] = defaultdict(list)
        self.losses: dict[str, float] = {}
        self.waiting: dict[str, list[float]] = defaultdict(list)
        self.facts: dict[str, Any] = {}
        self.modes = {"stored": Mode(), **(FASTER if task.device == "cuda" else {})}
        self._rounds = 0
        self._stack = ExitStack()
        self._apart: list[Apart] = []

    def __enter__(self) -> Contest:
        with self._stack:
            self._warm_up()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for contender in self._apart:
            contender.join()

    def _warm_up(self) -> None:
        # Ours first and alone: it labels, for which it has workers of its own.
        self._ours = self._start(Stillroom, self.task, self.place)
        self.facts["labelling_s"] = round(self._ours("labelled"), 1)
        self._rivals = {"timm": self._start(Timm, self.task, self.workers)}
        python = python_with("torchdistill", TORCHDISTILL)
        if python is not None:
            self._rivals["torchdistill"] = self._start(TorchDistill, self.task, self.workers, packages_of(python))
        self._limit = Bound(self.task)
        self._stack.callback(self._limit.close)
        self._limit.wait()
        self.facts["chosen"] = {name: rival("choose", SOME) for name, rival in self._rivals.items()}

    def _start(self, make: Any, *args: Any) -> Apart:
        contender = self._stack.enter_context(Apart(make, *args, environment=WORKER_ENVIRONMENT))
        self._apart.append(contender)
        contender.wait()
        return contender

    def round(self) -> None:
        """Everyone once, what is fast again."""
        epoch, self._rounds = self._rounds, self._rounds + 1
        self._train("online", "online", epoch, Mode())
        for name, rival in self._rivals.items():
            ran = rival("train", epoch)
            self.paces[name].append(ran.pace)
            self.losses[name] = ran.loss
        for turn in range(self.again):
            count, seconds = len(self.task.paths), self._limit.seconds()
            clock, work = least(seconds, self.task.device).tolist()
            self.paces["bound"].append(Pace(count / clock, 1000 * work / count))
            for name, value in seconds.items():
                self.parts[f"bare_{name}_ms"].append(1000 * value[0] / count)
            runs = [(name, "stored", mode) for name, mode in self.modes.items()] + [
                ("no_teacher", "no_teacher", Mode())
            ]
            # Turn about: whoever comes second finds caches and memory as the first left them.
            for name, kind, mode in runs[:: -1 if (epoch + turn) % 2 else 1]:
                self._train(name, kind, epoch, mode)
        for kind in KINDS:
            for name, value in self._ours("alone", kind, min(SOME, self.task.steps)).items():
                self.parts[f"{kind}_{name}_ms"].append(1000 * value / BATCH)

    def _train(self, name: str, kind: str, epoch: int, mode: Mode) -> None:
        went = self._ours("train", kind, epoch, mode)
        self.paces[name].append(went.pace)
        self.waiting[name].append(went.waiting)
        self.losses[name] = went.loss

    def figures(self) -> dict[str, Any]:
        """Medians: images a second by contender, and milliseconds an image of the parts.

        `bare_*` are the bound's, on all cores. `<kind>_load` is Stillroom's loading by one thread with nothing beside
        it, `<kind>_step` its trainer's step on batches that are ready. `waiting` is the share of a training's time
        that its step waits for data, `cpu_ms` the CPU time an image, `loss` that of the last training, to see that
        all learn the same.
        """
        return {
            **{name: round(median(pace.rate for pace in each), 2) for name, each in self.paces.items()},
            **{name: round(median(each), 3) for name, each in self.parts.items()},
            "cpu_ms": {name: round(median(pace.cpu_ms for pace in each), 3) for name, each in self.paces.items()},
            "waiting": {name: round(median(each), 3) for name, each in self.waiting.items()},
            "loss": {name: round(value, 3) for name, value in self.losses.items()},
            **self.facts,
        }
