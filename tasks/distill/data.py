"""Batches of a training: the pictures of its samples, their labels and their teaching.

Every batch is a pure function of its step, so batches may be loaded ahead in any order by threads (a Dask
worker is daemonic: it may not start loader processes).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from models.augmentation.draws import ALONE, Recipe, epoch_view, partners
from models.augmentation.rendering import to_input
from models.losses.targets import Targets
from models.training import Batch
from models.training.epoch_plan import together
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_label_reader import Teaching
from tasks.data.views import view_of
from tasks.distill.gather import Gathered
from tasks.distill.images import IMAGES
from tasks.distill.job import Sampling
from tasks.distill.rows import TrainRows
from tasks.distill.sampling import GlobalBatches, slice_of

AS_THEY_COME = Sampling()


@dataclass(frozen=True)
class Input:
    """What a network takes: square pictures of a side in pixels, normalised per channel for values of 0..1."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class TrainData:
    """The samples of one training.

    Args:
        corpus: the ingested corpus.
        recipe: of the views.
        view_count: stored views V.
        teaching: soft labels, or None for a training on labels alone or with online teachers (which then sees a
            fresh view every epoch instead of one of V: the labels-only arm gets the best augmentation there is).
        weights: sample weight by key (from select); a missing key weighs 1.
        seed: of the order.
        batch: samples a step, over all ranks.
        size, mean, std: the network's own input.
        sampling: which samples come, and how often; without any teacher only labelled ones do.
        online: the inputs of teachers that see the same pictures.
        features: teachers whose stored features are read, and the tap under which they are found.
        part: (rank, ranks): the slice of each global batch that is loaded here.
        pin: put inputs into page-locked memory, from where a GPU takes them beside its work.

    Raises:
        UsageError: nobody takes part, the ranks do not divide the batch, or the sampling cannot be had.

    Attributes:
        samples: rows that take part, the size of the index space of `Targets.index_B`.
        prior: as `TrainRows`.
    """

    def __init__(
        self,
        corpus: Corpus,
        recipe: Recipe,
        view_count: int,
        teaching: Teaching | None,
        weights: Mapping[str, float],
        *,
        seed: int,
        batch: int,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        sampling: Sampling = AS_THEY_COME,
        online: Sequence[Input] = (),
        features: Mapping[int, str] | None = None,
        part: tuple[int, int] = (0, 1),
        pin: bool = False,
    ) -> None:
        self.corpus, self.recipe, self.view_count = corpus, recipe, view_count
        self.teaching, self.batch = teaching, batch
        self.inputs = [Input(size, tuple(mean), tuple(std)), *online]
        self.features = dict(features or {})
        self.part = slice_of(batch, part)
        self.pin = pin
        self.numbers = [i for i, shard in enumerate(corpus.shards) if shard.split == "train"]
        shards = [corpus.shards[i] for i in self.numbers]
        self.rows = TrainRows(
            shards,
            weights,
            len(corpus.classes),
            unlabelled=sampling.pool == "all" and (teaching is not None or bool(online)),
        )
        self.samples, self.prior = self.rows.samples, self.rows.prior
        # Steps of an epoch come back to the same shards in one view.
        self._partners = lru_cache(maxsize=4096)(self._pair)
        self.plan = GlobalBatches(
            shards,
            self.rows.chosen,
            sampling,
            seed=seed,
            batch=batch,
            partner=None if recipe.mix == "none" else self._mixed,
        )

    def load(self, step: int) -> Batch:
        """The batch of a step."""
        block = self.plan.at(step)[self.part]
        _, shard, row = block.T
        partner, taught = self._taught(block)
        pictures, share = self._pictures(block, partner)
        if self.recipe.mix != "none":
            taught |= {**self.rows.labels(shard, partner, "partner_"), "share_B": torch.from_numpy(share)}
        targets = Targets(**self.rows.facts(shard, row), **taught)
        inputs = {each: _input(pictures, each) for each in dict.fromkeys(self.inputs)}
        keys = [str(self._shard(position).keys[row]) for _, position, row in block.tolist()]
        if self.pin:
            inputs = {each: x.pin_memory() for each, x in inputs.items()}
        x, *teacher_x = (inputs[each] for each in self.inputs)
        return Batch(x, targets, keys, tuple(teacher_x))

    def _taught(self, block: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Partners int64 [B] and the fields of `Targets` that teachers fill, by int64 [B, 3]: turn, position, row."""
        partner = np.full(len(block), ALONE, dtype=np.int64)
        gathered = Gathered(len(block), self.features)
        for turn, position, at in together(block):
            view, rows = self._view(turn), block[at, 2]
            if self.teaching is None:
                mixed = self._partners(position, view)
            else:
                taught = self.teaching.rows(self.numbers[position], view, features=tuple(self.features))
                gathered.add(at, taught, rows)
                mixed = taught.partner
            if mixed is not None:
                partner[at] = mixed[rows]
        return partner, gathered.fields()

    def _pictures(self, block: np.ndarray, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, S, S, 3], and float32 [B], the share of each sample's own view."""
        side = self.recipe.size
        pictures = np.empty((len(block), side, side, 3), dtype=np.uint8)
        share = np.empty(len(block), dtype=np.float32)
        # Partners come together, so each of the two views is rendered once for both mixtures.
        known: defaultdict[tuple[int, int], dict[int, np.ndarray]] = defaultdict(dict)
        for number, (turn, position, row) in enumerate(block.tolist()):
            shard = self._shard(position)
            pictures[number], share[number] = view_of(
                partial(IMAGES.get, self.corpus, shard),
                shard,
                self.recipe,
                self._view(turn),
                row,
                int(partner[number]),
                known=known[turn, position],
            )
        return pictures, share

    def _shard(self, position: int) -> Shard:
        return self.corpus.shards[self.numbers[position]]

    def _view(self, turn: int) -> int:
        if self.teaching is None and self.view_count > 0:
            return 1 + turn
        return epoch_view(turn, self.view_count)

    def _mixed(self, turn: int, position: int) -> np.ndarray | None:
        """Partners of a shard's rows: those stored with the labels, where there are any."""
        view = self._view(turn)
        if self.teaching is None:
            return self._partners(position, view)
        return self.teaching.rows(self.numbers[position], view).partner

    def _pair(self, position: int, view: int) -> np.ndarray | None:
        """Partners where none are stored: rows that train pair among themselves; on labels alone all have labels."""
        shard, rows = self._shard(position), self.rows.chosen[position]
        found = partners(self.recipe, view, shard.keys[rows])
        if found is None:
            return None
        partner = np.full(len(shard), ALONE, dtype=np.int32)
        partner[rows] = np.where(found == ALONE, ALONE, rows[found])
        return partner

    def batches(self, start: int, stop: int, *, ahead: int = 3, threads: int = 1) -> Iterator[Batch]:
        """Batches `start` to `stop` - 1, loaded ahead by threads."""
        with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
            flying: deque[Future[Batch]] = deque()
            for step in range(start, stop):
                flying.append(pool.submit(self.load, step))
                if len(flying) > ahead:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()


def _input(pictures: np.ndarray, wanted: Input) -> torch.Tensor:
    return torch.from_numpy(to_input(pictures, wanted.size, wanted.mean, wanted.std))
