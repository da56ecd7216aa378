"""What every contender trains: student, teacher, views, loss, and how a stretch of the training is timed.

The teacher is EfficientNet-Lite0 with its ImageNet weights and a fresh head of the corpus's classes: what it says is no
use, but it costs what a fine-tuned one costs. The loss is cross-entropy plus KL at temperature 1, weight 1 each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import psutil
import torch
from safetensors.torch import save_file

from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import decode, render
from models.networks.build import Built, build

STUDENT, TEACHER, LARGE_TEACHER = "micro", "tf_efficientnet_lite0", "resnet152"
CLASSES, SIDE, BATCH = 8, 224, 32
RECIPE = ViewRecipe(SIDE)
RATE, DECAY = 1e-3, 0.02  # of AdamW
WARM, TAIL = 2, 4
"""Steps before and after those that are timed: as many as any contender loads ahead."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """Images a second, and CPU time an image: on a machine that others use too, the second is the steadier."""

    rate: float
    cpu_ms: float


@dataclass(frozen=True)
class Task:
    """One race.

    Attributes:
        paths: the images; an epoch is one pass over them.
        teacher: a timm name.
        weights: of the teacher, as `make_teacher` wrote them.
        device: cpu or cuda.
        threads: of the training step.
    """

    paths: tuple[Path, ...]
    teacher: str
    weights: Path
    device: str
    threads: int

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.paths) // BATCH

    def student_built(self) -> Built:
        """The student, the same random weights for everyone."""
        return build(STUDENT, num_classes=CLASSES)

    def teacher_built(self) -> Built:
        """The teacher, frozen."""
        built = build(self.teacher, num_classes=CLASSES, weights=self.weights)
        built.module.requires_grad_(False)
        return built

    def settle(self) -> None:
        """Threads of this process."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(1)


def make_teacher(model: str, path: Path) -> Path:
    """Write the teacher's weights."""
    module = build(model, num_classes=CLASSES, pypi=model == TEACHER).module
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)
    return path


def class_of(number: int) -> int:
    """The class of an image, by its number among the images."""
    return number % CLASSES


def picture(path: Path, view: int) -> np.ndarray:
    """One view of an image file, RGB uint8 [SIDE, SIDE, 3], as Stillroom draws and renders it."""
    return render(decode(path.read_bytes()), RECIPE, draw(RECIPE, view, path.stem))


class Stretch:
    """Times `steps` steps in the middle of a training, so that what is loaded ahead is as much at both ends."""

    def __init__(self, steps: int, device: str) -> None:
        self.steps, self.device = steps, device
        self._moments: list[np.ndarray] = []

    @property
    def total(self) -> int:
        """Steps that the training must have."""
        return WARM + self.steps + TAIL

    def pace(self) -> Pace:
        """How fast the timed steps were."""
        begin, end = self._moments
        seconds, work = end - begin
        count = self.steps * BATCH
        return Pace(float(count / seconds), float(1000 * work / count))

    def of(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, with a look at the clocks before the first and after the last timed step."""
        for number, batch in enumerate(batches):
            if number in (WARM, WARM + self.steps):
                if self.device == "cuda":
                    torch.cuda.synchronize()
                self._moments.append(np.array([time.perf_counter(), _work()]))
            yield batch


def _work() -> float:
    """CPU seconds of this process and its children so far."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def mean_loss(losses: Sequence[float]) -> float:
    """Mean of the second half."""
    return float(np.mean(losses[len(losses) // 2 :]))
