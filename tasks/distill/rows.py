"""What is known of every training image before it is loaded: whether it takes part, its weight, its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.augmentation.draws import ALONE
from tasks.data.corpus import Shard


class TrainRows:
    """The rows of all training shards in one table, so that a batch is looked up at once and not row by row.

    Args:
        shards: the training shards.
        weights: by key; a missing key weighs 1, and a row that weighs nothing takes no part.
        classes: C.
        unlabelled: whether rows without a label take part.

    Attributes:
        chosen: of each shard, int64 rows that take part.
        samples: how many do; `index` counts up to it.
        prior: share of every class among the labelled rows that take part; empty where there are none, and for
            multilabel corpora.
    """

    def __init__(
        self, shards: Sequence[Shard], weights: Mapping[str, float], classes: int, *, unlabelled: bool
    ) -> None:
        own = [np.array([weights.get(key, 1.0) for key in shard.keys], dtype=np.float32) for shard in shards]
        self.chosen = [
            np.flatnonzero((weight > 0) & (unlabelled | shard.labelled))
            for shard, weight in zip(shards, own, strict=True)
        ]
        start = np.cumsum([0, *(len(shard) for shard in shards)])
        self._start = start[:-1]
        self._weight = np.concatenate(own)
        self._label = np.concatenate([shard.label for shard in shards]).astype(np.int64)
        many = [shard.labels for shard in shards if shard.labels is not None]
        self._labels = np.concatenate(many) if many else None
        taking = np.concatenate([first + rows for first, rows in zip(self._start, self.chosen, strict=True)])
        self.samples = len(taking)
        self._index = np.full(start[-1], -1, dtype=np.int64)
        self._index[taking] = np.arange(self.samples)
        known = self._label[taking][self._label[taking] >= 0]
        self.prior = tuple((np.bincount(known, minlength=classes) / len(known)).tolist()) if len(known) else ()

    def facts(self, shard_B: np.ndarray, row_B: np.ndarray) -> dict[str, Any]:
        """`label_B`, `labels_BC`, `weight_B` and `index_B` of `Targets`, for positions of shards and rows in them."""
        place = self._start[shard_B] + row_B
        return {
            **self.labels(shard_B, row_B),
            "weight_B": torch.from_numpy(self._weight[place]),
            "index_B": torch.from_numpy(self._index[place]),
        }

    def labels(self, shard_B: np.ndarray, row_B: np.ndarray, prefix: str = "") -> dict[str, Any]:
        """`label_B` and `labels_BC` of `Targets` by prefixed name, -1 where the row is ALONE."""
        nobody = row_B == ALONE
        place = self._start[shard_B] + row_B
        labels = None
        if self._labels is not None:
            labels = torch.from_numpy(np.where(nobody[:, None], -1, self._labels[place]).astype(np.float32))
        return {
            f"{prefix}label_B": torch.from_numpy(np.where(nobody, -1, self._label[place])),
            f"{prefix}labels_BC": labels,
        }
