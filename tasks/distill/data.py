"""Batches of a training: which samples take part, their views, their labels and their teaching.

Every batch is a pure function of its step, so batches may be loaded ahead in any order by threads (a Dask
worker is daemonic: it may not start loader processes).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from models.epoch_plan import EpochPlan
from models.losses import Targets
from models.training import Batch
from models.view_draws import ALONE, Recipe, epoch_view, partners
from models.views import to_input
from tasks.corpus import Corpus, Shard
from tasks.images import load_image
from tasks.label.lookup import Teaching
from tasks.views import view_of


class DecodedImages:
    """Decoded images of this process, kept while they fit; several trainings of one corpus share them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, corpus: Corpus, shard: Shard, row: int) -> np.ndarray:
        """The image, decoded now or before; least recently used ones make room."""
        name = (shard.id, row)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        image = load_image(corpus.store, shard, row)
        with self._lock:
            if name not in self._kept and image.nbytes <= self.limit:
                self._kept[name] = image
                self._bytes += image.nbytes
                while self._bytes > self.limit:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image


IMAGES = DecodedImages(limit=1 << 30)


@dataclass(frozen=True)
class _Sample:
    shard: Shard
    row: int
    partner: int  # row mixed in, or ALONE
    picture: np.ndarray  # uint8 [S, S, 3]
    share: float  # of the row's own view in the picture
    weight: float
    logits: np.ndarray | None  # float32 [K, C]
    valid: bool


class TrainData:
    """The samples of one training.

    Args:
        corpus: the ingested corpus.
        recipe: of the views.
        view_count: stored views V.
        teaching: soft labels, or None for a training on labels alone (which then sees a fresh view every
            epoch instead of one of V: the labels-only arm gets the best augmentation there is).
        weights: sample weight by key (from select); a missing key weighs 1.
        seed: of the order.
        batch: samples a step.
        size, mean, std: the network's own input.
    """

    def __init__(
        self,
        corpus: Corpus,
        recipe: Recipe,
        view_count: int,
        teaching: Teaching | None,
        weights: dict[str, float],
        *,
        seed: int,
        batch: int,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        self.corpus, self.recipe, self.view_count = corpus, recipe, view_count
        self.teaching, self.batch = teaching, batch
        self.size, self.mean, self.std = size, mean, std
        self.numbers = [i for i, shard in enumerate(corpus.shards) if shard.split == "train"]
        self.weights = [
            np.array([weights.get(key, 1.0) for key in corpus.shards[i].keys], dtype=np.float32) for i in self.numbers
        ]
        # Steps of an epoch come back to the same shards in one view.
        self._partners = lru_cache(maxsize=4096)(self._pair)
        self.plan = EpochPlan(
            [self._rows(i) for i in range(len(self.numbers))],
            seed=seed,
            partner=None if recipe.mix == "none" else lambda epoch, position: self._mixed(position, self._view(epoch)),
        )

    def _rows(self, position: int) -> np.ndarray:
        shard = self.corpus.shards[self.numbers[position]]
        use = shard.labelled if self.teaching is None else np.ones(len(shard), dtype=bool)
        return np.flatnonzero(use & (self.weights[position] > 0))

    def load(self, step: int) -> Batch:
        """The batch of a step."""
        # Partners come together, so each of the two views is rendered once for both mixtures.
        known: defaultdict[tuple[int, int], dict[int, np.ndarray]] = defaultdict(dict)
        samples = [
            self._sample(epoch, position, row, known[position, epoch])
            for epoch, position, row in self.plan.batch(step, self.batch).tolist()
        ]
        x = to_input(np.stack([sample.picture for sample in samples]), self.size, self.mean, self.std)
        logits = [sample.logits for sample in samples if sample.logits is not None]
        targets = Targets(
            **_labels([(sample.shard, sample.row) for sample in samples], ""),
            teacher_KBC=torch.from_numpy(np.stack(logits, axis=1)) if logits else None,
            valid_B=torch.tensor([sample.valid for sample in samples]),
            weight_B=torch.tensor([sample.weight for sample in samples], dtype=torch.float32),
        )
        if self.recipe.mix != "none":
            targets = replace(
                targets,
                **_labels([(sample.shard, sample.partner) for sample in samples], "partner_"),
                share_B=torch.tensor([sample.share for sample in samples], dtype=torch.float32),
            )
        return Batch(torch.from_numpy(x), targets, [str(sample.shard.keys[sample.row]) for sample in samples])

    def _sample(self, epoch: int, position: int, row: int, known: dict[int, np.ndarray]) -> _Sample:
        number = self.numbers[position]
        shard = self.corpus.shards[number]
        view = self._view(epoch)
        soft = None if self.teaching is None else self.teaching.rows(number, view)
        partner = self._mixed(position, view)
        other = ALONE if partner is None else int(partner[row])
        load = partial(IMAGES.get, self.corpus, shard)
        picture, share = view_of(load, shard, self.recipe, view, row, other, known=known)
        return _Sample(
            shard,
            row,
            other,
            picture,
            share,
            float(self.weights[position][row]),
            None if soft is None else soft.logits[:, row],
            soft is not None and bool(soft.valid[row]),
        )

    def _view(self, epoch: int) -> int:
        if self.teaching is None and self.view_count > 0:
            return 1 + epoch
        return epoch_view(epoch, self.view_count)

    def _mixed(self, position: int, view: int) -> np.ndarray | None:
        """Partners of a shard's rows in a view: those stored with the labels, where there are any."""
        if self.teaching is None:
            return self._partners(position, view)
        return self.teaching.rows(self.numbers[position], view).partner

    def _pair(self, position: int, view: int) -> np.ndarray | None:
        """Partners where none are stored: labelled images pair among themselves, so that every mixture has labels."""
        shard = self.corpus.shards[self.numbers[position]]
        rows = np.flatnonzero(shard.labelled)
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


def _labels(rows: Sequence[tuple[Shard, int]], prefix: str) -> dict[str, Any]:
    """`label_B` and `labels_BC` of some rows, -1 where the row is ALONE."""
    label = [-1 if row == ALONE else int(shard.label[row]) for shard, row in rows]
    many = [
        np.full(shard.labels.shape[1], -1) if row == ALONE else shard.labels[row]
        for shard, row in rows
        if shard.labels is not None
    ]
    return {
        f"{prefix}label_B": torch.tensor(label, dtype=torch.int64),
        f"{prefix}labels_BC": torch.from_numpy(np.stack(many).astype(np.float32)) if many else None,
    }
