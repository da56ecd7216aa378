"""How far a study is: a progress artifact of its flow run, with trainings done, found and left, and the time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.pipeline.stage import slug
from tasks.pipeline.surroundings import Listener

TRAININGS = ("student ", "fine-tune teacher ")
"""How the labels of the line's trainings begin."""

SECONDS_BETWEEN_UPDATES = 2.0


class StudyProgress(Listener):
    """Counts trainings that end, and passes everything on.

    Args:
        name: of the study.
        listener: hears all that this one hears.
        total: trainings of the whole study, those that are found in the store included.
        clock: seconds.
    """

    def __init__(
        self, name: str, listener: Listener, total: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._listener, self.total, self._clock = listener, total, clock
        self.made = self.found = 0
        self._began = self._told = clock()
        self._lock = threading.Lock()
        self._id: Any = create_progress_artifact(
            progress=0.0, key=f"study-progress-{slug(name)}", description=self.text()
        )

    def progress(self, label: str, done: int, total: int) -> None:
        self._listener.progress(label, done, total)

    def message(self, text: str) -> None:
        self._listener.message(text)

    def ended(self, label: str, state: str, message: str) -> None:
        self._listener.ended(label, state, message)
        if not label.startswith(TRAININGS):
            return
        with self._lock:
            if state == "Cached":
                self.found += 1
            else:
                self.made += 1
            done = self.made + self.found >= self.total
            if not done and self._clock() - self._told < SECONDS_BETWEEN_UPDATES:
                return
            self._told = self._clock()
        self.tell()

    def tell(self) -> None:
        """Bring the artifact up to date."""
        update_progress_artifact(self._id, progress=self.percent, description=self.text())

    @property
    def percent(self) -> float:
        """Trainings that have ended, of all."""
        return min(100.0, 100.0 * (self.made + self.found) / max(1, self.total))

    def text(self) -> str:
        """Trainings done, found and left, and the minutes that those left take at the pace so far."""
        left = max(0, self.total - self.made - self.found)
        text = f"{self.made} trainings done, {self.found} found in the store, {left} left"
        if left and self.made:
            minutes = left * (self._clock() - self._began) / self.made / 60
            text += f", at most {minutes:.0f} minutes" if minutes >= 1 else ", less than a minute"
        return text
