"""What the flow's process makes of what a training says: progress, lines for people, curves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from infra.compute.cluster import Cluster
from infra.errors import CancelledError
from tasks.distill.curves import Curves

SECONDS_BETWEEN_LINES = 30.0

Step = Callable[[int, int], None]
Say = Callable[[str], None]


class Watch:
    """Hears a training by the topic of its events; a context manager around its fan-out.

    Args:
        topic: of the events.
        title: of the training, for people.
        steps: of the whole training.
        progress: gets (step, steps).
        say: gets a line now and then.
        curves: gets everything; closed with the block.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        title: str,
        steps: int,
        progress: Step | None,
        say: Say | None,
        curves: Curves | None,
    ) -> None:
        self._cluster, self._topic, self._title, self._steps = cluster, topic, title, steps
        self._progress, self._say, self._curves = progress, say, curves
        self._client: Any = None
        self._spoken = time.monotonic()
        self._waiting = math.nan

    def hear(self, message: dict[str, Any]) -> None:
        """Take one message of `tasks.distill.reporting`."""
        if self._curves is not None:
            self._curves.add(message)
        if self._say is not None:
            for line in message["say"]:
                self._say(f"{self._title}: {line}")
        for row in message["logs"]:
            self._waiting = row["waiting"]
        if "step" not in message:
            return
        if self._progress is not None:
            self._progress(message["step"], self._steps)
        if self._say is not None and time.monotonic() - self._spoken >= SECONDS_BETWEEN_LINES:
            self._spoken = time.monotonic()
            self._say(f"{self._title}: {self._line(message)}")

    def _line(self, message: dict[str, Any]) -> str:
        text = (
            f"step {message['step']:,} of {self._steps:,}, loss {message['loss']:.4g}, "
            f"{message['images_per_second']:,.0f} images/s"
        )
        # What it waits for is told with the log points, the first of which comes late.
        return text if math.isnan(self._waiting) else f"{text}, {self._waiting:.0%} of the time waiting for data"

    def __enter__(self) -> Watch:
        # Held, not looked up again: the handle would start a new cluster in place of one that died.
        self._client = self._cluster.client
        self._client.subscribe_topic(self._topic, lambda event: self.hear(event[1]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)
        if self._curves is not None:
            asked = kind is not None and issubclass(kind, CancelledError)
            self._curves.close("FINISHED" if kind is None else "KILLED" if asked else "FAILED")
