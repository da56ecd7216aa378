"""Which training images take part, their weights and labels, and the global batches they come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from infra.errors import UsageError
from models.augmentation.draws import NO_PARTNER
from models.training.epoch_plan import NATURAL, EpochPlan
from tasks.data.corpus import Shard
from tasks.distill.training_job import Sampling


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
            np.flatnonzero((weight > 0) & shard.used & (unlabelled | shard.labelled))
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
        """`label_B` and `labels_BC` of `Targets` by prefixed name, -1 where the row is NO_PARTNER."""
        alone = row_B == NO_PARTNER
        place = self._start[shard_B] + row_B
        labels = None
        if self._labels is not None:
            labels = torch.from_numpy(np.where(alone[:, None], -1, self._labels[place]).astype(np.float32))
        return {
            f"{prefix}label_B": torch.from_numpy(np.where(alone, -1, self._label[place])),
            f"{prefix}labels_BC": labels,
        }


Partner = Callable[[int, int], np.ndarray | None]
"""From a turn and a shard to the row that each row is mixed with, as `EpochPlan` asks for it."""


class GlobalBatches:
    """The batches of a training over all its ranks: a pure function of seed and step.

    Args:
        shards: the training shards.
        rows: of each, those that take part.
        sampling: how often they come. Balanced classes are those of labelled rows; unlabelled ones come as they are,
            because a teacher's prediction of their class is no label. With a ratio, labelled and unlabelled rows follow
            two plans of their own, spread evenly over each batch, so that every rank's slice has its share of both.
        seed: of the order.
        batch: samples of a global batch.
        partner: as `EpochPlan`.

    Raises:
        UsageError: no image takes part, or the sampling is impossible: balanced classes of a multilabel corpus, a ratio
            without rows of both kinds or with too small a batch for both.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        rows: Sequence[np.ndarray],
        sampling: Sampling,
        *,
        seed: int,
        batch: int,
        partner: Partner | None,
    ) -> None:
        if sampling.classes == "balanced" and any(shard.labels is not None for shard in shards):
            raise UsageError(
                "train.sampling: balanced needs one class an image, and this corpus is multilabel; use natural"
            )
        labelled = [shard.labelled[own] for shard, own in zip(shards, rows, strict=True)]
        count = int(sum(int(known.sum()) for known in labelled))
        total = sum(map(len, rows))
        if not total:
            raise UsageError("no training image takes part: none has a label, or select left none with a weight")
        if sampling.classes == "balanced" and not count:
            raise UsageError(
                "train.sampling: balanced needs labelled training images, and none takes part; use natural"
            )

        def plan(chosen: Sequence[np.ndarray]) -> EpochPlan:
            classes = None
            if sampling.classes == "balanced":
                classes = [
                    np.where(s.labelled[own], s.label[own], NATURAL) for s, own in zip(shards, chosen, strict=True)
                ]
            return EpochPlan(chosen, seed=seed, partner=partner, classes=classes)

        if sampling.ratio is None:
            self._plans = [plan(rows)]
            self._kind = np.zeros(batch, dtype=np.int64)
        else:
            self._kind = _spread(batch, _labelled_share(batch, sampling.ratio, count, total - count))
            both = (
                [own[known] for own, known in zip(rows, labelled, strict=True)],
                [own[~known] for own, known in zip(rows, labelled, strict=True)],
            )
            self._plans = [plan(chosen) for chosen in both[: int(self._kind.max()) + 1]]

    def at(self, step: int) -> np.ndarray:
        """Global batch `step`: int64 [B, 3] of (turn, shard, row); turns as `EpochPlan.batch` counts them."""
        found = np.empty((len(self._kind), 3), dtype=np.int64)
        for number, plan in enumerate(self._plans):
            own = self._kind == number
            found[own] = plan.batch(step, int(own.sum()))
        return found


def slice_of(batch: int, part: tuple[int, int]) -> slice:
    """What one of several ranks takes of each global batch.

    Args:
        part: (rank, ranks).

    Raises:
        UsageError: the ranks do not divide the batch.
    """
    rank, ranks = part
    if batch % ranks:
        fits = [size for size in (batch // ranks * ranks, (batch // ranks + 1) * ranks) if size]
        raise UsageError(
            f"train.batch: {batch} samples cannot be split evenly over {ranks} devices; "
            f"{' or '.join(map(str, fits))} can"
        )
    return slice(batch // ranks * rank, batch // ranks * (rank + 1))


def _labelled_share(batch: int, ratio: float, labelled: int, unlabelled: int) -> int:
    """How many samples of each batch are labelled."""
    share = round(batch / (1 + ratio))
    name = f"train.unlabelled_ratio: {ratio:g}"
    if not labelled or (ratio > 0 and not unlabelled):
        raise UsageError(f"{name} needs labelled and unlabelled training images; {labelled} and {unlabelled} take part")
    if not share or (ratio > 0 and share == batch):
        kind = "labelled" if not share else "unlabelled"
        raise UsageError(f"{name} leaves no {kind} image in a batch of {batch}; take a larger train.batch")
    return share


def _spread(batch: int, labelled: int) -> np.ndarray:
    """int64 [B]: 0 where a labelled sample stands, 1 where an unlabelled one does, as evenly as may be."""
    before = np.arange(batch + 1) * labelled // batch
    return 1 - np.diff(before)
