"""Batches of a training: which samples take part, their views, their labels and their teaching.

Every batch is a pure function of its step, so batches may be loaded ahead in any order by threads (a Dask
worker is daemonic: it may not start loader processes).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from models.epoch_plan import EpochPlan
from models.losses import Targets
from models.training import Batch
from models.view_draws import Recipe, draw, epoch_view
from models.views import render, to_input
from tasks.corpus import Corpus, Shard
from tasks.images import load_image
from tasks.label.lookup import Teaching


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
        self.plan = EpochPlan([self._rows(i) for i in range(len(self.numbers))], seed=seed)

    def _rows(self, position: int) -> np.ndarray:
        shard = self.corpus.shards[self.numbers[position]]
        use = shard.labelled if self.teaching is None else np.ones(len(shard), dtype=bool)
        return np.flatnonzero(use & (self.weights[position] > 0))

    def load(self, step: int) -> Batch:
        """The batch of a step."""
        chosen = self.plan.batch(step, self.batch)
        views, labels, many, taught, valid, weight, keys = [], [], [], [], [], [], []
        for epoch, position, row in chosen.tolist():
            number = self.numbers[position]
            shard = self.corpus.shards[number]
            view = self._view(epoch)
            views.append(self._render(shard, row, view))
            labels.append(int(shard.label[row]))
            keys.append(str(shard.keys[row]))
            weight.append(float(self.weights[position][row]))
            if shard.labels is not None:
                many.append(shard.labels[row])
            if self.teaching is not None:
                soft = self.teaching.rows(number, view)
                taught.append(soft.logits[:, row])
                valid.append(bool(soft.valid[row]))
        x = to_input(np.stack(views), self.size, self.mean, self.std)
        return Batch(
            x_B3HW=torch.from_numpy(x),
            targets=Targets(
                label_B=torch.tensor(labels, dtype=torch.int64),
                labels_BC=torch.from_numpy(np.stack(many).astype(np.float32)) if many else None,
                teacher_KBC=torch.from_numpy(np.stack(taught, axis=1)) if taught else None,
                valid_B=torch.tensor(valid if taught else [False] * len(labels)),
                weight_B=torch.tensor(weight, dtype=torch.float32),
            ),
            keys=keys,
        )

    def _view(self, epoch: int) -> int:
        if self.teaching is None and self.view_count > 0:
            return 1 + epoch
        return epoch_view(epoch, self.view_count)

    def _render(self, shard: Shard, row: int, view: int) -> np.ndarray:
        image = IMAGES.get(self.corpus, shard, row)
        return render(image, self.recipe, draw(self.recipe, view, str(shard.keys[row])))

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
