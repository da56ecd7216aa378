"""Which samples, in which order: a pure function of seed and epoch (DESIGN: Epoch plan).

Shards are permuted by hash(seed, epoch) and samples shuffled inside windows of W shards, so a reader of
remote shards holds W of them at a time. Epochs follow one another without a seam: global batch s takes
positions [sB, (s+1)B) of the endless sequence of epochs, so no sample is dropped and resuming at a step
needs nothing but the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np


class EpochPlan:
    """The order of samples for one set of shards.

    Args:
        rows: for each shard, the rows that take part (int array each); shards may be empty.
        seed: of the order.
        window: shards among which samples are mixed.
        partner: for an epoch and a shard, int [N] the row that each row's view is mixed with, -1 nobody's, or None;
            partners then follow one another, so that they share a batch (but for one pair where two batches meet).
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        *,
        seed: int,
        window: int = 8,
        partner: Callable[[int, int], np.ndarray | None] | None = None,
    ) -> None:
        self.rows = [np.asarray(r, dtype=np.int64) for r in rows]
        self.seed = seed
        self.window = window
        self.partner = partner
        self.size = int(sum(len(r) for r in self.rows))
        if self.size == 0:
            raise ValueError("no sample takes part in this training")
        self._epoch = lru_cache(maxsize=2)(self._order)

    def _order(self, epoch: int) -> np.ndarray:
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        shards = random.permutation(len(self.rows))
        parts = []
        for start in range(0, len(shards), self.window):
            window = shards[start : start + self.window]
            block = np.concatenate(
                [np.stack([np.full(len(self.rows[s]), s, dtype=np.int64), self.rows[s]], axis=1) for s in window]
            )
            order = random.permutation(len(block))
            if self.partner is not None:
                mates = self._mates(epoch, window)
                place = np.empty(len(order), dtype=np.int64)
                place[order] = np.arange(len(order))
                order = np.lexsort((place, np.minimum(place, place[mates])))
            parts.append(block[order])
        return np.concatenate(parts)

    def _mates(self, epoch: int, window: np.ndarray) -> np.ndarray:
        """For every sample of a window the place of its partner; its own where it has none that takes part."""
        assert self.partner is not None
        found, base = [], 0
        for shard in window:
            rows = self.rows[shard]
            own = base + np.arange(len(rows))
            partner = self.partner(epoch, shard)
            if partner is not None and len(rows):
                at = np.full(len(partner) + 1, -1, dtype=np.int64)  # the last place is that of nobody
                at[rows] = own
                mate = at[partner[rows]]
                own = np.where(mate < 0, own, mate)
            found.append(own)
            base += len(rows)
        return np.concatenate(found)

    def batch(self, step: int, size: int) -> np.ndarray:
        """Global batch `step`: int64 [size, 3] of (epoch, shard, row)."""
        first, last = step * size, (step + 1) * size
        parts = []
        for epoch in range(first // self.size, (last - 1) // self.size + 1):
            start = epoch * self.size
            block = self._epoch(epoch)[max(0, first - start) : last - start]
            parts.append(np.column_stack([np.full(len(block), epoch, dtype=np.int64), block]))
        return np.concatenate(parts)

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """Global batches `start` to `stop` - 1."""
        for step in range(start, stop):
            yield self.batch(step, size)
