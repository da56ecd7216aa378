"""Messages of a training: sent by the worker once a second at most, received by the flow's process.

A message holds plain values: `step`, `loss` and `images_per_second` of the last second; `points`, the losses of single
steps, thinned; `logs`, the log points with their pace; and `lines` for people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from infra.errors import CancelledError
from tasks.distill.curves import Curves
from tasks.pipeline.context import Context

SECONDS_BETWEEN_MESSAGES = 1.0
POINTS = 2000
"""Single steps of a training that are sent."""

Message = dict[str, Any]


class TrainingMessages:
    """Collects what happens in a training and sends it on.

    Args:
        send: takes a message.
        steps: of the whole training.
        batch: images of a step.
    """

    def __init__(self, send: Callable[[Message], None], *, steps: int, batch: int) -> None:
        self._send, self._batch = send, batch
        self._stride = math.ceil(steps / POINTS)
        self._points: list[dict[str, float]] = []
        self._logs: list[dict[str, float]] = []
        self._sent, self._sent_step = time.monotonic(), 0
        self._step: int | None = None
        self._loss = math.nan

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """One step's losses."""
        if self._step is None:
            self._sent_step = step - 1
        self._step, self._loss = step, values["loss"]
        if step % self._stride == 0:
            self._points.append({"step": step, **{name: value for name, value in values.items() if name != "lr"}})
        if time.monotonic() - self._sent >= SECONDS_BETWEEN_MESSAGES:
            self.flush()

    def log(self, row: Mapping[str, float], pace: Mapping[str, float]) -> None:
        """One log point."""
        self._logs.append({**row, **pace})
        if time.monotonic() - self._sent >= SECONDS_BETWEEN_MESSAGES:
            self.flush()

    def line(self, text: str) -> None:
        """A line for people; sent at once and alone: the pace is that of the steps between two messages of steps."""
        self._send({"points": [], "logs": [], "lines": [text]})

    def flush(self) -> None:
        """Send what was collected."""
        now = time.monotonic()
        message: Message = {"points": self._points, "logs": self._logs, "lines": []}
        if self._step is not None and self._step > self._sent_step:
            images = (self._step - self._sent_step) * self._batch
            pace = images / max(now - self._sent, 1e-9)
            message |= {"step": self._step, "loss": self._loss, "images_per_second": pace}
            self._sent_step = self._step
        self._sent, self._points, self._logs = now, [], []
        self._send(message)


SECONDS_BETWEEN_LINES = 30.0


class TrainingListener:
    """Receives the messages of a training by the topic of its events; a context manager around its fan-out.

    Progress goes to `context.progress`, lines for people to `context.message`.

    Args:
        topic: of the events.
        title: of the training, for people.
        steps: of the whole training.
        curves: gets every message; closed with the block.
    """

    def __init__(self, context: Context, topic: str, *, title: str, steps: int, curves: Curves | None) -> None:
        self._context, self._topic, self._title, self._steps = context, topic, title, steps
        self._curves = curves
        self._client: Any = None
        self._last_line = time.monotonic()
        self._waiting = math.nan
        self.paces: list[float] = []  # images a second, of every message with steps

    def receive(self, message: Message) -> None:
        """Take one message of `TrainingMessages`."""
        if self._curves is not None:
            self._curves.add(message)
        for line in message["lines"]:
            self._context.message(f"{self._title}: {line}")
        for row in message["logs"]:
            self._waiting = row["waiting"]
        if "step" not in message:
            return
        self.paces.append(message["images_per_second"])
        self._context.progress(message["step"], self._steps)
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._context.message(f"{self._title}: {self._line(message)}")

    def _line(self, message: Message) -> str:
        text = (
            f"step {message['step']:,} of {self._steps:,}, loss {message['loss']:.4g}, "
            f"{message['images_per_second']:,.0f} images/s"
        )
        # The share of waiting comes with the log points, the first of which comes late.
        return text if math.isnan(self._waiting) else f"{text}, {self._waiting:.0%} of the time waiting for data"

    def __enter__(self) -> TrainingListener:
        # Held, not looked up again: the handle would start a new cluster in place of one that died.
        self._client = self._context.cluster.client
        self._client.subscribe_topic(self._topic, lambda event: self.receive(event[1]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)
        if self._curves is not None:
            cancelled = kind is not None and issubclass(kind, CancelledError)
            self._curves.close("FINISHED" if kind is None else "KILLED" if cancelled else "FAILED")
