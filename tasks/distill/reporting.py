"""What a training says while it runs, in messages of plain values, once a second at most.

A message has `step`, `loss` and `images_per_second` of the last second; `points`, the losses of single steps, thinned;
`logs`, the log points with their pace; and `say`, lines for people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS = 1.0
POINTS = 2000
"""Single steps of a training that are told of."""

Message = dict[str, Any]


class Reporter:
    """Gathers what a training says.

    Args:
        tell: takes a message.
        steps: of the whole training.
        batch: images of a step.
    """

    def __init__(self, tell: Callable[[Message], None], *, steps: int, batch: int) -> None:
        self._tell, self._batch = tell, batch
        self._stride = math.ceil(steps / POINTS)
        self._points: list[dict[str, float]] = []
        self._logs: list[dict[str, float]] = []
        self._lines: list[str] = []
        self._sent, self._told = time.monotonic(), 0
        self._step: int | None = None
        self._loss = math.nan

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """One step's losses."""
        if self._step is None:
            self._told = step - 1
        self._step, self._loss = step, values["loss"]
        if step % self._stride == 0:
            self._points.append({"step": step, **{name: value for name, value in values.items() if name != "lr"}})
        if time.monotonic() - self._sent >= SECONDS:
            self.send()

    def log(self, row: Mapping[str, float], pace: Mapping[str, float]) -> None:
        """One log point."""
        self._logs.append({**row, **pace})
        if time.monotonic() - self._sent >= SECONDS:
            self.send()

    def say(self, text: str) -> None:
        """A line for people."""
        self._lines.append(text)
        self.send()

    def send(self) -> None:
        """Send what was gathered."""
        now = time.monotonic()
        message: Message = {"points": self._points, "logs": self._logs, "say": self._lines}
        if self._step is not None:
            images = (self._step - self._told) * self._batch
            pace = images / max(now - self._sent, 1e-9)
            message |= {"step": self._step, "loss": self._loss, "images_per_second": pace}
            self._told = self._step
        self._sent, self._points, self._logs, self._lines = now, [], [], []
        self._tell(message)
