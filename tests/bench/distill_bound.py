"""What a training without a teacher in the loop cannot beat: decoding, views and steps, each alone on all cores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from infra.compute.cluster_spec import WORKER_ENVIRONMENT
from models.augmentation.draws import draw
from models.augmentation.rendering import decode, render, to_input
from tests.bench.apart import Apart
from tests.bench.distill_task import BATCH, CLASSES, DECAY, RATE, RECIPE, SIDE, Task, class_of


class Bare:
    """The loops, in one process; each answers with seconds by the clock and of the CPU, [2]."""

    def __init__(self, task: Task) -> None:
        task.settle()
        self.task = task

    def data(self, paths: Sequence[Path]) -> dict[str, np.ndarray]:
        """Reading and decoding, rendering, and making views a network's input; by batches.

        A batch is decoded, then rendered: it lies in cache as it does in a training.
        """
        built = self.task.student_built()
        parts = dict.fromkeys(("decode", "view", "input"), np.zeros(2))
        for first in range(0, len(paths), BATCH):
            block = paths[first : first + BATCH]
            moments = [_now()]
            images = [decode(path.read_bytes()) for path in block]
            moments.append(_now())
            views = np.stack(
                [render(image, RECIPE, draw(RECIPE, 1, p.stem)) for p, image in zip(block, images, strict=True)]
            )
            moments.append(_now())
            to_input(views, SIDE, built.mean, built.std)
            moments.append(_now())
            parts = {name: parts[name] + each for name, each in zip(parts, np.diff(moments, axis=0), strict=True)}
        return parts

    def step(self, steps: int) -> np.ndarray:
        """So many steps on one batch with stored logits: no averaging, no clipping, no looking at losses."""
        task, device = self.task, self.task.device
        student = task.student_built().module.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=DECAY, foreach=True)
        x_B3SS = torch.randn(BATCH, 3, SIDE, SIDE).to(device, memory_format=torch.channels_last)
        label_B = torch.tensor([class_of(n) for n in range(BATCH)], device=device)
        log_p_BC = log_softmax(torch.randn(BATCH, CLASSES, device=device), dim=1)

        def once() -> None:
            z_BC = student(x_B3SS)
            log_q_BC = log_softmax(z_BC, dim=1)
            loss = cross_entropy(z_BC, label_B) + kl_div(log_q_BC, log_p_BC, reduction="batchmean", log_target=True)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        once()
        _wait(device)
        start = _now()
        for _ in range(steps):
            once()
        _wait(device)
        return _now() - start


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Bound:
    """The loops on all cores: decoding and views by a process a core, steps by one process with all of them.

    A training takes its steps one after the other, so steps side by side would bound nothing.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.parts = [task.paths[n :: task.threads] for n in range(task.threads)]
        self.many = Apart(Bare, task, processes=task.threads, environment=WORKER_ENVIRONMENT)
        self.one = Apart(Bare, task, environment=WORKER_ENVIRONMENT)

    def wait(self) -> None:
        """Until the processes are there, and the files in memory."""
        self.many.each("data", [(part,) for part in self.parts])
        self.one("step", 1)

    def seconds(self) -> dict[str, np.ndarray]:
        """Seconds of each loop over an epoch, by the clock and of all CPUs, [2]: `decode`, `view`, `input`, `step`."""
        told = self.many.each("data", [(part,) for part in self.parts])
        parts = {
            name: np.array([max(one[name][0] for one in told), sum(one[name][1] for one in told)]) for name in told[0]
        }
        return {**parts, "step": self.one("step", self.task.steps)}

    def close(self) -> None:
        """End the processes."""
        self.many.close()
        self.one.close()


def least(seconds: Mapping[str, np.ndarray], device: str) -> np.ndarray:
    """What an epoch takes at least, [2]; on a GPU the CPU's part hides behind it, or it behind the CPU's."""
    cpu = seconds["decode"] + seconds["view"] + seconds["input"]
    return np.asarray(np.maximum(cpu, seconds["step"]) if device == "cuda" else cpu + seconds["step"])
