"""Batches of a training: the images of its samples, their labels and the stored outputs of teachers.

Every batch is a pure function of its step, so batches may be loaded ahead in any order by threads (a Dask
worker is daemonic: it may not start loader processes).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from models.augmentation.draws import NO_PARTNER, ViewRecipe, mixture, partners
from models.augmentation.rendering import to_input
from models.augmentation.view_numbers import epoch_view, unstored_view
from models.losses.targets import Targets
from models.training.config import Batch
from models.training.epoch_plan import group_by_shard
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import SoftLabelReader, TeacherPredictions
from tasks.data.views import view_of
from tasks.distill.kept_images import decoded, stored_view
from tasks.distill.samples import GlobalBatches, TrainRows, slice_of
from tasks.distill.training_job import Sampling

NATURAL_SAMPLING = Sampling()


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
        view_count: stored random views V.
        teaching: soft labels, or None for a training on labels alone or with online teachers (which then sees a
            new view every epoch instead of one of V: the labels-only arm gets the best augmentation there is).
        weights: sample weight by key (from select); a missing key weighs 1.
        seed: of the order.
        batch: samples a step, over all ranks.
        size, mean, std: the network's own input.
        sampling: which samples come, and how often; without any teacher only labelled ones do.
        targets: view: what teachers say of the view that is shown; mean: their mean over all stored views.
        plain: whether a training without stored labels sees the plain view too, see `unstored_view`.
        online: the inputs of teachers that see the same pictures.
        features: teachers whose stored features are read, and the tap under which they are found.
        part: (rank, ranks): the slice of each global batch that is loaded here.
        pin: put inputs into page-locked memory, from where they are copied to a GPU while it computes.

    Raises:
        UsageError: no image takes part, the ranks do not divide the batch, or the sampling is impossible.

    Attributes:
        samples: rows that take part, the size of the index space of `Targets.index_B`.
        prior: as `TrainRows`.
    """

    def __init__(
        self,
        corpus: Corpus,
        recipe: ViewRecipe,
        view_count: int,
        teaching: SoftLabelReader | None,
        weights: Mapping[str, float],
        *,
        seed: int,
        batch: int,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        sampling: Sampling = NATURAL_SAMPLING,
        targets: str = "view",
        plain: bool = True,
        online: Sequence[Input] = (),
        features: Mapping[int, str] | None = None,
        part: tuple[int, int] = (0, 1),
        pin: bool = False,
    ) -> None:
        self.corpus, self.recipe, self.view_count = corpus, recipe, view_count
        self.teaching, self.batch, self.plain = teaching, batch, plain
        self.targets = targets
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
        partner = np.full(len(block), NO_PARTNER, dtype=np.int64)
        outputs = TeacherOutputs(len(block), self.features)
        for turn, position, at in group_by_shard(block):
            view, rows = self._view(turn), block[at, 2]
            if self.teaching is None:
                mixed = self._partners(position, view)
            else:
                taught = self._stored(self.teaching, self.numbers[position], view)
                outputs.add(at, taught, rows)
                mixed = taught.partner
            if mixed is not None:
                partner[at] = mixed[rows]
        return partner, outputs.fields()

    def _stored(self, teaching: SoftLabelReader, number: int, view: int) -> TeacherPredictions:
        """What teachers say of one view of a shard, or of all its views."""
        if self.targets == "view":
            return teaching.rows(number, view, features=tuple(self.features))
        mean = teaching.mean(number, self.view_count)
        if not self.features:
            return mean
        # Features are those of the view that is shown.
        shown = teaching.rows(number, view, features=tuple(self.features))
        return replace(mean, valid=shown.valid, features=shown.features)

    def _pictures(self, block: np.ndarray, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, S, S, 3], and float32 [B], the share of each sample's own view."""
        side = self.recipe.size
        pictures = np.empty((len(block), side, side, 3), dtype=np.uint8)
        share = np.empty(len(block), dtype=np.float32)
        # Partners come together, so each of the two views is rendered once for both mixtures.
        known: defaultdict[tuple[int, int], dict[int, np.ndarray]] = defaultdict(dict)
        for number, (turn, position, row) in enumerate(block.tolist()):
            shard, view, other = self._shard(position), self._view(turn), int(partner[number])
            if self.teaching is not None:
                # Stored views come again; others never do.
                for each in {row, other} - {NO_PARTNER}:
                    known[turn, position][each] = stored_view(self.corpus, shard, self.recipe, view, each)
            if self.teaching is not None and other == NO_PARTNER:
                pictures[number], share[number] = known[turn, position][row], 1.0
                continue
            pictures[number], share[number] = view_of(
                partial(decoded, self.corpus, shard),
                shard,
                self.recipe,
                view,
                row,
                other,
                known=known[turn, position],
            )
        return pictures, share

    def _shard(self, position: int) -> Shard:
        return self.corpus.shards[self.numbers[position]]

    def _view(self, turn: int) -> int:
        if self.teaching is None:
            return unstored_view(turn, self.view_count, plain=self.plain)
        return epoch_view(turn, self.view_count)

    def _mixed(self, turn: int, position: int) -> np.ndarray | None:
        return self._partner(position, self._view(turn))

    def _partner(self, position: int, view: int) -> np.ndarray | None:
        """Partners of a shard's rows: those stored with the labels, where there are any."""
        if self.teaching is None:
            return self._partners(position, view)
        return self.teaching.rows(self.numbers[position], view).partner

    def _pair(self, position: int, view: int) -> np.ndarray | None:
        """Partners where none are stored: rows that train pair among themselves; on labels alone all have labels."""
        shard, rows = self._shard(position), self.rows.chosen[position]
        found = partners(self.recipe, view, shard.keys[rows])
        if found is None:
            return None
        partner = np.full(len(shard), NO_PARTNER, dtype=np.int32)
        partner[rows] = np.where(found == NO_PARTNER, NO_PARTNER, rows[found])
        return partner

    def mixing_note(self) -> str:
        """How labelled images fare that are mixed with unlabelled ones, in view 1, for people; "" where none is."""
        if self.recipe.mix == "none" or not self.view_count:
            return ""
        view = self._view(1)
        labelled = half = 0
        lost = 0.0
        for position, rows in enumerate(self.rows.chosen):
            shard, partner = self._shard(position), self._partner(position, view)
            own = rows[shard.labelled[rows]]
            labelled += len(own)
            if partner is None:
                continue
            for row in own[partner[own] != NO_PARTNER].tolist():
                other = int(partner[row])
                half += not shard.labelled[other]
                if not np.isin(other, rows):
                    # The rest of the label stands in the partner's own picture, which is never shown.
                    lost += 1 - mixture(self.recipe, view, str(shard.keys[row]), str(shard.keys[other])).share
        if not half and not lost:
            return ""
        text = (
            f"views.mix: {self.recipe.mix} mixes {half:,} of {labelled:,} labelled images with unlabelled ones (view "
            f"{view}): each label counts by its share of the picture"
        )
        if not lost:
            return text
        return (
            f"{text}. {lost / labelled:.0%} of the labels' weight is lost to partners that take no part "
            "(student.pool, or weight 0 from select)"
        )

    def batches(self, start: int, stop: int, *, ahead: int = 3, threads: int = 1) -> Iterator[Batch]:
        """Batches `start` to `stop` - 1, loaded ahead by threads."""
        with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
            pending: deque[Future[Batch]] = deque()
            for step in range(start, stop):
                pending.append(pool.submit(self.load, step))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


def _input(pictures: np.ndarray, wanted: Input) -> torch.Tensor:
    return torch.from_numpy(to_input(pictures, wanted.size, wanted.mean, wanted.std))


class TeacherOutputs:
    """Stored logits and features of all teachers for a batch, put together shard by shard.

    Args:
        size: samples of the batch, B.
        taps: by teacher, the name under which its stored features are found.
    """

    def __init__(self, size: int, taps: Mapping[int, str]) -> None:
        self._taps = taps
        self._valid = np.zeros(size, dtype=bool)
        self._logits: np.ndarray | None = None
        self._maps: dict[int, np.ndarray] = {}

    def add(self, at: np.ndarray, taught: TeacherPredictions, rows: np.ndarray) -> None:
        """Add what is stored for some rows of a shard, for the samples at places `at`."""
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
