"""Detection of divergence: losses or gradients that are not finite, or a loss far above its first values.

The rule must never end a healthy run: losses differ by orders of magnitude, and their weights change during a run. So
each part of the loss, unweighted, is compared with its own first values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

BEGINNING = 20
"""First values of a part, zeros left out, that later ones are compared with."""

PROPORTION = 1000.0
"""A part may reach this many times the largest of them."""

MOST_SKIPPED = 20
"""Steps in a row that loss scaling may skip."""


class DivergenceCheck:
    """Checks one step after the other.

    Args:
        scaled: the loss is scaled (float16), so that a step whose gradient overflows is skipped.
    """

    def __init__(self, scaled: bool) -> None:
        self._scaled = scaled
        self._skipped = 0
        self._largest: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def error(self, loss: float, parts: Mapping[str, float], norm: float, active: Collection[str]) -> str:
        """The reason why a step has diverged; "" where it has not.

        Args:
            parts: unweighted values by title.
            norm: of the gradient.
            active: titles of the parts with a weight above zero in this step.
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
        """The state as plain values."""
        return {"skipped": self._skipped, "largest": dict(self._largest), "seen": dict(self._seen)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._skipped, self._largest, self._seen = state["skipped"], dict(state["largest"]), dict(state["seen"])
