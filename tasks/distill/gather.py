"""Stored teaching of a batch, put together from the shards and views that its samples are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tasks.data.soft_label_reader import Taught


class Gathered:
    """Teachers' answers for a batch.

    Args:
        size: samples of the batch, B.
        taps: by teacher, the name under which its stored features are found.
    """

    def __init__(self, size: int, taps: Mapping[int, str]) -> None:
        self._taps = taps
        self._valid = np.zeros(size, dtype=bool)
        self._logits: np.ndarray | None = None
        self._maps: dict[int, np.ndarray] = {}

    def add(self, at: np.ndarray, taught: Taught, rows: np.ndarray) -> None:
        """What is said of some rows of a shard, for the samples at places `at`."""
        if self._logits is None:
            size = len(self._valid)
            self._logits = np.empty((len(taught.logits), size, taught.logits.shape[2]), dtype=np.float32)
            self._maps = {k: np.empty((size, *taught.features[k].shape[1:]), dtype=np.float32) for k in self._taps}
        self._logits[:, at] = taught.logits[:, rows]
        self._valid[at] = taught.valid[rows]
        for teacher, map_B in self._maps.items():
            map_B[at] = taught.features[teacher][rows]

    def fields(self) -> dict[str, Any]:
        """`teacher_KBC`, `valid_B` and `maps` of `Targets`; no sample is valid where nothing was added."""
        teachers = range(0 if self._logits is None else len(self._logits))
        return {
            "teacher_KBC": None if self._logits is None else torch.from_numpy(self._logits),
            "valid_B": torch.from_numpy(self._valid),
            "maps": tuple(self._map(teacher) for teacher in teachers) if self._maps else (),
        }

    def _map(self, teacher: int) -> dict[str, torch.Tensor]:
        if teacher not in self._maps:
            return {}
        return {self._taps[teacher]: torch.from_numpy(self._maps[teacher])}
