"""How long the steps of a run take: what is left of it, by the last time that each was made, and device hours.

Steps run side by side; a step counts for the time by which the run's end moved. The times of a spec are kept in
`steps.json` below `STILLROOM_HOME`: a hint, which may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tasks.pipeline.graph import Step
from tasks.pipeline.rates import read_file, write_entry

FILE = "steps.json"

ON_DEVICE = ("teach", "compare", "label", "distill", "evaluate")
"""Stages that compute on the device of the run."""

_SHOWN_SECONDS = 20.0  # of less nobody needs to be told


class StepTimes:
    """Seconds of each step that one run made.

    Args:
        name: of the spec.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._before = {key: float(value) for key, value in read_file(FILE).get(name, {}).items()}
        self._left: list[Step] = []
        self._last = time.monotonic()
        self.made: dict[Step, float] = {}

    def expect(self, steps: Sequence[Step]) -> None:
        """These steps and no others are still to come."""
        self._left = list(steps)

    def ended(self, step: Step, *, made: bool) -> None:
        """A step ended; its time is remembered where it was made."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self._left = [one for one in self._left if one is not step]
        if made:
            self.made[step] = seconds
            write_entry(FILE, self._name, step.title, round(seconds, 2))

    @property
    def left(self) -> float | None:
        """Seconds until the run ends, as long as each step took when it was made last; None: one never was."""
        known = [self._before.get(step.title) for step in self._left]
        if any(seconds is None for seconds in known):
            return None
        return max(0.0, sum(filter(None, known)) - (time.monotonic() - self._last))

    @property
    def left_text(self) -> str:
        """The same for people."""
        if not self._left:
            return "none"
        seconds = self.left
        if seconds is None:
            return "not known: this spec has steps that were not made here before"
        if seconds < _SHOWN_SECONDS:
            return "seconds"
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        return f"at most {duration_text(seconds)}, until about {end:%H:%M} UTC"

    @property
    def device_seconds(self) -> float:
        """In which the device worked for this run."""
        return sum(seconds for step, seconds in self.made.items() if step.stage.name in ON_DEVICE)


def duration_text(seconds: float) -> str:
    """A duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
