"""The order of samples: a pure function of seed and epoch (DESIGN: Epoch plan).

Shards are permuted by hash(seed, epoch) and samples shuffled inside windows of W shards, so a reader of
remote shards holds W of them at a time. Batches cross the ends of epochs: global batch s takes
positions [sB, (s+1)B) of the endless sequence of epochs, so no sample is dropped and resuming at a step
needs nothing but the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

NATURAL = -1
"""The class of samples that are not balanced: each occurs once an epoch."""


class EpochPlan:
    """The order of samples for one set of shards.

    Args:
        rows: for each shard, the rows that take part (int array each); shards may be empty.
        seed: of the order.
        window: shards among which samples are mixed.
        partner: for a turn and a shard, int [N] the row that each row's view is mixed with, -1 none, or None;
            partners then follow one another, so that they share a batch (but for one pair at the end of a batch).
        classes: the class of each row, as `rows`; every class then occurs equally often in every epoch, about as many
            samples in all as there are. No row of a class occurs again before each has occurred as often. NATURAL rows
            are not balanced.
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        *,
        seed: int,
        window: int = 8,
        partner: Callable[[int, int], np.ndarray | None] | None = None,
        classes: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.rows = [np.asarray(r, dtype=np.int64) for r in rows]
        self.seed = seed
        self.window = window
        self.partner = partner
        self._free, self._classes, self._each = self.rows, [], 0
        if classes is not None:
            self._free = [own[kind == NATURAL] for own, kind in zip(self.rows, classes, strict=True)]
            self._classes = _members(self.rows, classes)
            balanced = sum(len(members) for members in self._classes)
            self._each = max(1, round(balanced / max(1, len(self._classes))))
        self.size = int(sum(len(r) for r in self._free)) + self._each * len(self._classes)
        if self.size == 0:
            raise ValueError("no sample takes part in this training")
        self._epoch = lru_cache(maxsize=2)(self._order)
        self._turns = lru_cache(maxsize=4 + 2 * len(self._classes))(self._turn)

    def _order(self, epoch: int) -> np.ndarray:
        """int64 [size, 3] of (turn, shard, row)."""
        random = self._random(f"{epoch}")
        shards = random.permutation(len(self.rows))
        samples = self._samples(epoch)
        parts = []
        for start in range(0, len(shards), self.window):
            block = np.concatenate([samples[shard] for shard in shards[start : start + self.window]])
            order = random.permutation(len(block))
            if self.partner is not None:
                partner_places = self._partner_places(block)
                place = np.empty(len(order), dtype=np.int64)
                place[order] = np.arange(len(order))
                order = np.lexsort((place, np.minimum(place, place[partner_places])))
            parts.append(block[order])
        return np.concatenate(parts)

    def _samples(self, epoch: int) -> list[np.ndarray]:
        """The samples of an epoch by shard, int64 [n, 3]."""
        found = [_triples(epoch, shard, rows) for shard, rows in enumerate(self._free)]
        if not self._classes:
            return found
        drawn = np.concatenate([self._drawn(number, epoch) for number in range(len(self._classes))])
        drawn = drawn[np.argsort(drawn[:, 1], kind="stable")]
        cuts = np.searchsorted(drawn[:, 1], np.arange(1, len(found)))
        return [np.concatenate(both) for both in zip(found, np.split(drawn, cuts), strict=True)]

    def _drawn(self, number: int, epoch: int) -> np.ndarray:
        """A class's samples of an epoch: the next ones of its endless sequence of turns."""
        size, first, last = len(self._classes[number]), epoch * self._each, (epoch + 1) * self._each
        parts = []
        for turn in range(first // size, (last - 1) // size + 1):
            members = self._turns(number, turn)[max(0, first - turn * size) : last - turn * size]
            parts.append(np.column_stack([np.full(len(members), turn, dtype=np.int64), members]))
        return np.concatenate(parts)

    def _turn(self, number: int, turn: int) -> np.ndarray:
        members = self._classes[number]
        return members[self._random(f"class {number}/{turn}").permutation(len(members))]

    def _random(self, name: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))

    def _partner_places(self, block: np.ndarray) -> np.ndarray:
        """For every sample of a window the place of its partner in the same turn; its own where there is none."""
        assert self.partner is not None
        partner_places = np.arange(len(block))
        for turn, shard, places in group_by_shard(block):
            partner = self.partner(turn, shard)
            if partner is None:
                continue
            at = np.full(len(partner) + 1, -1, dtype=np.int64)  # the last place stands for no partner
            at[block[places, 2]] = places
            mate = at[partner[block[places, 2]]]
            partner_places[places] = np.where(mate < 0, places, mate)
        return partner_places

    def batch(self, step: int, size: int) -> np.ndarray:
        """Global batch `step`: int64 [size, 3] of (turn, shard, row).

        The turn is the number of earlier occurrences of the row: the epoch, but for rows of balanced classes.
        """
        first, last = step * size, (step + 1) * size
        return np.concatenate(
            [
                self._epoch(epoch)[max(0, first - epoch * self.size) : last - epoch * self.size]
                for epoch in range(first // self.size, (last - 1) // self.size + 1)
            ]
        )

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """Global batches `start` to `stop` - 1."""
        for step in range(start, stop):
            yield self.batch(step, size)


def group_by_shard(block: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Turn, shard and int64 places of the samples that share both.

    Args:
        block: int64 [n, 3] of (turn, shard, row).
    """
    order = np.lexsort((block[:, 1], block[:, 0]))
    pairs = block[order, :2]
    cuts = np.flatnonzero((pairs[1:] != pairs[:-1]).any(axis=1)) + 1
    for places in np.split(order, cuts):
        if len(places):
            yield int(block[places[0], 0]), int(block[places[0], 1]), places


def _triples(turn: int, shard: int, rows: np.ndarray) -> np.ndarray:
    return np.column_stack([np.full(len(rows), turn, np.int64), np.full(len(rows), shard, np.int64), rows])


def _members(rows: Sequence[np.ndarray], classes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of every class that occurs, int64 [n, 2] of (shard, row)."""
    kinds = np.concatenate([np.asarray(kind, dtype=np.int64) for kind in classes])
    places = np.concatenate([_triples(0, shard, own)[:, 1:] for shard, own in enumerate(rows)])
    return [places[kinds == kind] for kind in np.unique(kinds[kinds != NATURAL])]
