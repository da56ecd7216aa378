"""What the training benchmark rests on; nothing here is timed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.bench.distill_bound import least
from tests.bench.distill_rivals import Ran, Rival, Views
from tests.bench.distill_task import TAIL, WARM, Pace, Stretch, Task


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three image files."""
    random = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for path in files:
        cv2.imwrite(str(path), random.integers(0, 256, (64, 80, 3), dtype=np.uint8))
    return files


class _Known(Rival):
    """A contender whose speed is known by its settings."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.options = {"workers": (0, 1, 2), "prefetcher": (True, False)}

    def _run(self, epoch: int, steps: int, chosen: dict[str, object]) -> Ran:
        rate = {0: 10.0, 1: 30.0, 2: 20.0}[chosen["workers"]] + (5.0 if not chosen["prefetcher"] else 0.0)  # type: ignore[index]
        return Ran(Pace(rate, 1.0), 0.0)


def test_a_rival_keeps_the_settings_that_are_fastest_for_it(paths: list[Path]) -> None:
    task = Task(tuple(paths), "micro", paths[0], "cpu", torch.get_num_threads())
    assert _Known(task).choose(1) == {"workers": 1, "prefetcher": False}


def test_rivals_see_the_same_picture_as_bytes_and_as_numbers(paths: list[Path]) -> None:
    built = Task(tuple(paths), "micro", paths[0], "cpu", 1).student_built()
    raw, _ = Views(paths, 0, 3, None)[1]
    x, label = Views(paths, 0, 3, built)[1]
    mean, std = (np.array(values)[:, None, None] for values in (built.mean, built.std))
    np.testing.assert_allclose(x.numpy(), (raw / 255 - mean) / std, atol=1e-6)
    assert label == 1


def test_every_epoch_shows_a_rival_another_view_of_an_image(paths: list[Path]) -> None:
    views = Views(paths, 2, 4, None)
    assert not np.array_equal(views[0][0], views[3][0])


def test_a_stretch_looks_at_the_clock_twice_and_hands_every_batch_on() -> None:
    stretch = Stretch(2, "cpu")
    assert list(stretch.of(range(stretch.total))) == list(range(WARM + 2 + TAIL))
    assert stretch.pace().rate > 0


def test_the_bound_hides_loading_behind_steps_on_a_gpu_alone() -> None:
    parts = {name: np.full(2, value) for name, value in {"decode": 1.0, "view": 2.0, "input": 0.5, "step": 3.0}.items()}
    assert least(parts, "cpu")[0] == 6.5
    assert least(parts, "cuda")[0] == 3.5
