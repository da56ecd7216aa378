"""What the steps said: read back from the device together, averaged between two log lines, with the pace."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.training.config import Batch
from models.training.ranks import total, world


@dataclass(frozen=True)
class Reading:
    """One step, read back."""

    step: int
    loss: float
    parts: dict[str, float]
    norm: float  # of the gradient
    rate: float
    active: Collection[str]  # titles of the parts that count
    keys: list[str]  # of this rank
    sound: bool  # this rank's own share of the loss is a number


@dataclass(frozen=True)
class _Pending:
    step: int
    values: Tensor  # loss, parts, norm
    rate: float
    active: Collection[str]
    keys: list[str]


class Readings:
    """Steps whose numbers are still on the device."""

    def __init__(self, titles: list[str]) -> None:
        self._titles = titles
        self._pending: list[_Pending] = []

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self, step: int, loss: Tensor, parts: Mapping[str, Tensor], norm: Tensor, rate: float, batch: Batch, active: Any
    ) -> None:
        """Remember a step without waiting for it."""
        values = torch.stack([loss, *(parts[title] for title in self._titles), norm / world()])
        self._pending.append(_Pending(step, values.detach(), rate, active, batch.keys))

    def take(self, flag: bool) -> tuple[list[Reading], bool]:
        """All steps since the last call, summed over the ranks, and whether any rank has its flag up."""
        if not self._pending:
            return [], flag
        own_SV = torch.stack([one.values for one in self._pending])
        raised = own_SV.new_full((len(own_SV), 1), float(flag))
        rows = total(torch.cat([own_SV, raised], dim=1)).tolist()
        sound = own_SV[:, :-1].isfinite().all(1).tolist()
        readings = [
            Reading(
                one.step,
                row[0],
                dict(zip(self._titles, row[1:-2], strict=True)),
                row[-2],
                one.rate,
                one.active,
                one.keys,
                good,
            )
            for one, row, good in zip(self._pending, rows, sound, strict=True)
        ]
        self._pending = []
        return readings, rows[-1][-1] > 0


@dataclass
class Progress:
    """Running means between two log lines."""

    counts: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Count one step; what is no number (in a step that loss scaling left out) does not count."""
        for name, value in values.items():
            if math.isfinite(value):
                self.counts[name] = self.counts.get(name, 0) + 1
                self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: value / self.counts[name] for name, value in self.sums.items()}
        self.counts, self.sums = {}, {}
        return means


class Pace:
    """How fast the steps follow one another; never the same twice, so in no state."""

    def __init__(self) -> None:
        self._start, self._images, self._waited = time.perf_counter(), 0, 0.0

    def waiting(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch; None: there is none."""
        start = time.perf_counter()
        batch = next(batches, None)
        self._waited += time.perf_counter() - start
        self._images += 0 if batch is None else len(batch.x_B3HW) * world()
        return batch

    def take(self) -> dict[str, float]:
        """Images a second over all ranks, and the share of this rank's time that went into waiting for data."""
        took = max(time.perf_counter() - self._start, 1e-9)
        pace = {"images_per_second": self._images / took, "waiting": self._waited / took}
        self._start, self._images, self._waited = time.perf_counter(), 0, 0.0
        return pace
