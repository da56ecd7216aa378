"""What validations decide: when the rate falls, when the training ends, which weights are best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.training.config import TrainConfig


class Watch:
    """Follows one metric over the validations of a training."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._best: float | None = None
        self._since_best = 0
        self._waited = 0
        self.falls = 0  # of schedule plateau

    def note(self, value: float) -> bool:
        """Take a validation's metric; whether it is the best so far. A NaN is never better."""
        sign = 1 if self._config.higher_is_better else -1
        better = not math.isnan(value) and (self._best is None or sign * value > sign * self._best)
        if better:
            self._best, self._since_best, self._waited = value, 0, 0
            return True
        self._since_best += 1
        self._waited += 1
        if self._waited >= self._config.patience:
            self.falls += 1
            self._waited = 0
        return False

    @property
    def over(self) -> bool:
        """Whether early stop ends the training."""
        return self._config.early_stop is not None and self._since_best >= self._config.early_stop

    def state(self) -> dict[str, Any]:
        """What it remembers, plain."""
        return {"best": self._best, "since_best": self._since_best, "waited": self._waited, "falls": self.falls}

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` gave."""
        self._best, self._since_best = state["best"], state["since_best"]
        self._waited, self.falls = state["waited"], state["falls"]
