"""When a training has diverged: numbers that are none, or losses out of all proportion.

The rule must never end a healthy run: losses differ by orders of magnitude, and their weights change while a run
goes on. So each part of the loss, unweighted, is held against what it was itself when it began to count.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

BEGINNING = 20
"""Values of a part, zeros left out, that say what it is like."""

PROPORTION = 1000.0
"""How many times the largest of those a part may reach."""

MOST_SKIPPED = 20
"""Steps in a row that loss scaling may skip."""


class Guard:
    """Judges one step after the other.

    Args:
        scaled: the loss is scaled (float16), so that a step whose gradient overflows is left out, not wrong.
    """

    def __init__(self, scaled: bool) -> None:
        self._scaled = scaled
        self._skipped = 0
        self._largest: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def judge(self, loss: float, parts: Mapping[str, float], norm: float, active: Collection[str]) -> str:
        """What is wrong with a step; "": nothing.

        Args:
            parts: unweighted, by title.
            norm: of the gradient.
            active: titles of the parts that count in this step.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._skipped += 1
            if not self._scaled:
                return f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm}"
            if self._skipped >= MOST_SKIPPED:
                return f"the gradient overflowed {self._skipped} times in a row (loss {loss})"
            return ""
        self._skipped = 0
        for title in active:
            size = abs(parts[title])
            limit = PROPORTION * max(1.0, self._largest.get(title, 0.0))
            if self._seen.get(title, 0) >= BEGINNING and size > limit:
                return f"the {title} part of the loss is {parts[title]:.6g}, above {limit:.6g}"
            if size > 0 and self._seen.get(title, 0) < BEGINNING:
                self._seen[title] = self._seen.get(title, 0) + 1
                self._largest[title] = max(self._largest.get(title, 0.0), size)
        return ""

    def state(self) -> dict[str, Any]:
        """What it remembers, plain."""
        return {"skipped": self._skipped, "largest": dict(self._largest), "seen": dict(self._seen)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` gave."""
        self._skipped, self._largest, self._seen = state["skipped"], dict(state["largest"]), dict(state["seen"])
