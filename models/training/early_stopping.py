"""Decisions by validation: when the learning rate is reduced, when training stops, which weights are best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.training.config import TrainConfig


class EarlyStopping:
    """Follows one metric over the validations of a training."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._best: float | None = None
        self._since_best = 0
        self._waited = 0
        self.reductions = 0  # of the learning rate, by schedule plateau

    def update(self, value: float) -> bool:
        """Take in a validation's metric; returns whether it is the best so far. NaN never is."""
        sign = 1 if self._config.higher_is_better else -1
        better = not math.isnan(value) and (self._best is None or sign * value > sign * self._best)
        if better:
            self._best, self._since_best, self._waited = value, 0, 0
            return True
        self._since_best += 1
        self._waited += 1
        if self._waited >= self._config.patience:
            self.reductions += 1
            self._waited = 0
        return False

    @property
    def should_stop(self) -> bool:
        """Whether the training ends early."""
        return self._config.early_stop is not None and self._since_best >= self._config.early_stop

    def state(self) -> dict[str, Any]:
        """The state as plain values."""
        return {"best": self._best, "since_best": self._since_best, "waited": self._waited, "falls": self.reductions}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._best, self._since_best = state["best"], state["since_best"]
        self._waited, self.reductions = state["waited"], state["falls"]
