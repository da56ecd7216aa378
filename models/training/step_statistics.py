"""Statistics of the steps: values read back from the device in groups, means between two log lines, throughput."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.training.config import Batch
from models.training.distributed import sum_over_ranks, world_size


@dataclass(frozen=True)
class StepValues:
    """The values of one step, read back from the device."""

    step: int
    loss: float
    parts: dict[str, float]
    norm: float  # of the gradient
    rate: float
    active: Collection[str]  # titles of the parts with a weight above zero
    keys: list[str]  # of this rank
    finite: bool  # this rank's own share of loss and parts


@dataclass(frozen=True)
class _Pending:
    step: int
    values: Tensor  # loss, parts, norm
    rate: float
    active: Collection[str]
    keys: list[str]


class PendingSteps:
    """Steps whose values are still on the device."""

    def __init__(self, titles: list[str]) -> None:
        self._titles = titles
        self._pending: list[_Pending] = []

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self, step: int, loss: Tensor, parts: Mapping[str, Tensor], norm: Tensor, rate: float, batch: Batch, active: Any
    ) -> None:
        """Add a step without waiting for the device."""
        values = torch.stack([loss, *(parts[title] for title in self._titles), norm / world_size()])
        self._pending.append(_Pending(step, values.detach(), rate, active, batch.keys))

    def take(self, flag: bool) -> tuple[list[StepValues], bool]:
        """All steps since the last call, summed over the ranks, and whether the flag of any rank is set."""
        if not self._pending:
            return [], flag
        own_SV = torch.stack([one.values for one in self._pending])
        flags = own_SV.new_full((len(own_SV), 1), float(flag))
        rows = sum_over_ranks(torch.cat([own_SV, flags], dim=1)).tolist()
        finite = own_SV[:, :-1].isfinite().all(1).tolist()
        steps = [
            StepValues(
                one.step,
                row[0],
                dict(zip(self._titles, row[1:-2], strict=True)),
                row[-2],
                one.rate,
                one.active,
                one.keys,
                is_finite,
            )
            for one, row, is_finite in zip(self._pending, rows, finite, strict=True)
        ]
        self._pending = []
        return steps, rows[-1][-1] > 0


@dataclass
class RunningMeans:
    """Running means between two log lines."""

    counts: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Add one step; values that are not finite (of a step that loss scaling skipped) do not count."""
        for name, value in values.items():
            if math.isfinite(value):
                self.counts[name] = self.counts.get(name, 0) + 1
                self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: value / self.counts[name] for name, value in self.sums.items()}
        self.counts, self.sums = {}, {}
        return means


class Throughput:
    """Images a second and time spent on waiting for data; not reproducible, so in no checkpoint."""

    def __init__(self) -> None:
        self._start, self._images, self._waited = time.perf_counter(), 0, 0.0

    def next_batch(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch, timed; None at the end."""
        start = time.perf_counter()
        batch = next(batches, None)
        self._waited += time.perf_counter() - start
        self._images += 0 if batch is None else len(batch.x_B3HW) * world_size()
        return batch

    def take(self) -> dict[str, float]:
        """Images a second over all ranks, and the share of this rank's time spent on waiting for data."""
        took = max(time.perf_counter() - self._start, 1e-9)
        values = {"images_per_second": self._images / took, "waiting": self._waited / took}
        self._start, self._images, self._waited = time.perf_counter(), 0, 0.0
        return values
