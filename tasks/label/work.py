"""The worker's side of labelling: read, render, ask the teachers, store. May run twice without harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from infra.compute.stopping import stop_check
from infra.errors import PermanentError, StillroomError
from infra.storage.manifest import Quarantined
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import Store, open_store
from models.engines.network import Answer
from tasks.data.images import load_image
from tasks.data.soft_labels import SoftLabels, keep, write_soft_labels
from tasks.data.views import rendered, stored_partners
from tasks.label.costs import Asked
from tasks.label.job import STAGE, Ask, LabelJob
from tasks.label.speaker import Speaker, speaker
from tasks.teachers.table import table_teacher

SAMPLE = 128
"""Images on which engines are compared."""

BLOCK, BLOCK_BYTES = 32, 64 << 20
"""Rows rendered together: at least so many, more where a teacher takes larger batches and they fit these bytes."""


def label_shard(job: LabelJob) -> list[UnitRecord]:
    """Label some views of one shard: store a soft-label file and leave a record for each.

    A row on which a teacher fails is kept out alone, with its reason; the others are labelled.

    Raises:
        CorruptError: an image's bytes are not those ingested, or no image; shard and key are named.
        UsageError: a teacher cannot be built, or its weights have another head.
        PermanentError: a teacher fails on whatever it is asked.
        CancelledError: the flow asked to stop.
    """
    store = open_store(job.store)
    found = answers(job, store, stop=stop_check(job.topic))
    return [
        _keep_view(job, store, ask, view, key, said)
        for ask, each in zip(job.asks, found, strict=True)
        for (view, key), said in zip(ask.views, each, strict=True)
    ]


def get_ready(job: LabelJob) -> list[Asked]:
    """Load the teachers of a job and choose their engines, so that the workers that come after only follow.

    Returns:
        Each teacher as far as costs go; the rate is that of this worker's forward passes, where it was measured.
    """
    store = open_store(job.store)
    return [_voices(job, ask, store).asked(ask) for ask in job.asks]


def probe(job: LabelJob, rows: Sequence[int]) -> None:
    """Do with some rows all that labelling does, but store nothing: for the search after rows that kill."""
    answers(job, open_store(job.store), rows=rows)


@dataclass
class Said:
    """What a teacher says of one view, while it is gathered."""

    logits: np.ndarray  # [N, C] float32
    asked: np.ndarray  # [N] bool
    partner: np.ndarray | None
    features: np.ndarray | None = None  # [N, ...] float16, allocated with the first answer
    engine: dict[str, object] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)  # row to reason

    def take(self, rows: np.ndarray, answer: Answer) -> None:
        """Take up an answer for some rows."""
        self.logits[rows], self.asked[rows] = answer.logits_BC, True
        if answer.features_BD is not None:
            if self.features is None:
                self.features = np.zeros((len(self.logits), *answer.features_BD.shape[1:]), dtype=np.float32)
            self.features[rows] = answer.features_BD


def answers(
    job: LabelJob, store: Store, *, rows: Sequence[int] | None = None, stop: Callable[[], None] = lambda: None
) -> list[list[Said]]:
    """What every teacher of the job says: for each ask, for each of its views.

    Args:
        rows: the rows to read; default all but those that the job skips.
        stop: called between batches; raises when the run is to end.
    """
    cv2.setNumThreads(1)
    shard, skipped = job.shard, dict(job.skip)
    if rows is None:
        rows = [row for row in range(len(shard)) if row not in skipped]
    # No row but these may be touched, not even for its picture in another's mixture.
    others = set(range(len(shard))).difference(rows)
    partner = {view: stored_partners(job.recipe, view, shard, others) for view in job.views}
    found = [[_blank(job, ask, partner[view]) for view, _ in ask.views] for ask in job.asks]
    if not rows:
        return found
    voices = [_voices(job, ask, store) for ask in job.asks]
    sizes = {view: _sizes(job, voices, view) for view in job.views}
    load = partial(load_image, store, shard)
    together = _block(voices, sizes)
    for block, images in rendered(
        load, shard, job.recipe, sizes, partner, rows, threads=job.how.threads, block=together
    ):
        for ask, voice, each in zip(job.asks, voices, found, strict=True):
            for (view, _), said in zip(ask.views, each, strict=True):
                stop()
                voice.speak(said, block, images, view)
    return found


class _Networks:
    """A teacher with weights: the whole one, and its fold teachers for the rows of their folds."""

    def __init__(self, job: LabelJob, ask: Ask, store: Store) -> None:
        self.shard, self.name, self.folds = job.shard, ask.teacher.name, ask.folds
        sample = partial(_sample, job, store)
        refs = [ask.teacher.weights, *ask.teacher.folds]
        self.speakers = [speaker(ask.teacher, ref, job.how, store, sample) for ref in refs]
        self.size = self.speakers[0].size
        self.batch = max(each.runner.batch for each in self.speakers)

    def speak(self, said: Said, rows: np.ndarray, images: dict[tuple[int, int], np.ndarray], view: int) -> None:
        pictures = images[view, self.size]
        own = np.full(len(rows), -1) if self.folds is None else self.folds[rows]
        for fold in np.unique(own):
            chosen = own == fold
            self._ask(said, self.speakers[fold + 1], rows[chosen], pictures if chosen.all() else pictures[chosen])

    def asked(self, ask: Ask) -> Asked:
        """Its costs; the features' shape is known from an answer alone."""
        features: tuple[int, ...] = ()
        if ask.teacher.features is not None:
            found = self.speakers[0](np.zeros((1, self.size, self.size, 3), dtype=np.uint8)).features_BD
            features = found.shape[1:] if found is not None else ()
        return Asked(self.name, ask.teacher.num_classes, features, self.speakers[0].rate, self.speakers[0].told)

    def _ask(self, said: Said, who: Speaker, rows: np.ndarray, pictures: np.ndarray) -> None:
        said.engine = who.engine
        try:
            said.take(rows, who(pictures))
        except StillroomError:
            raise
        # A teacher of somebody else's making may fail with anything; one by one shows on which image.
        except Exception as error:
            if len(rows) > 1:
                for number in range(len(rows)):
                    self._ask(said, who, rows[number : number + 1], pictures[number : number + 1])
                if not said.asked[rows].any():
                    raise PermanentError(
                        f"teacher {self.name} fails on each of {len(rows)} images from "
                        f"{self.shard.keys[rows[0]]} of {self.shard.output.name}: {type(error).__name__}: {error}"
                    ) from error
            else:
                said.failed[int(rows[0])] = f"teacher {self.name}: {type(error).__name__}: {error}"


class _Table:
    """A teacher that is a table: it speaks of images, not of their views."""

    size, batch = 0, BLOCK

    def __init__(self, job: LabelJob, ask: Ask, store: Store) -> None:
        self.table = table_teacher(ask.teacher, store)
        self.logits, self.known = self.table.rows(job.shard.keys)

    def asked(self, ask: Ask) -> Asked:
        return Asked(ask.teacher.name, ask.teacher.num_classes)

    def speak(self, said: Said, rows: np.ndarray, images: dict[tuple[int, int], np.ndarray], view: int) -> None:
        known = rows[self.known[rows]]
        said.take(known, Answer(self.logits[known]))


def _voices(job: LabelJob, ask: Ask, store: Store) -> _Networks | _Table:
    return _Table(job, ask, store) if ask.teacher.kind == "table" else _Networks(job, ask, store)


def _sizes(job: LabelJob, voices: Sequence[_Networks | _Table], view: int) -> set[int]:
    asked = zip(job.asks, voices, strict=True)
    return {voice.size for ask, voice in asked if voice.size and view in dict(ask.views)}


def _block(voices: Sequence[_Networks | _Table], sizes: dict[int, set[int]]) -> int:
    row = sum(3 * side**2 for sides in sizes.values() for side in sides)
    return max(BLOCK, min(max(voice.batch for voice in voices), BLOCK_BYTES // max(1, row)))


def _blank(job: LabelJob, ask: Ask, partner: np.ndarray | None) -> Said:
    count = len(job.shard)
    logits = np.zeros((count, ask.teacher.num_classes), dtype=np.float32)
    return Said(logits, np.zeros(count, dtype=bool), partner)


def _sample(job: LabelJob, store: Store, size: int) -> np.ndarray:
    """Views to measure with, uint8 [n, size, size, 3]: the first view asked for, of the shard's first images."""
    skipped, view = dict(job.skip), job.views[0]
    rows = [row for row in range(len(job.shard)) if row not in skipped][:SAMPLE]
    partner = {view: None}
    load = partial(load_image, store, job.shard)
    blocks = rendered(load, job.shard, job.recipe, {view: {size}}, partner, rows, threads=job.how.threads, block=BLOCK)
    return np.concatenate([images[view, size] for _, images in blocks])


def _keep_view(job: LabelJob, store: Store, ask: Ask, view: int, key: str, said: Said) -> UnitRecord:
    cache = StageCache(store)
    soft: SoftLabels = keep(said.logits, asked=said.asked, partner=said.partner, features=said.features)
    output = cache.put_object(
        ask.object_name(job.title, job.recipe, view, key),
        write_soft_labels(soft),
        id=key,
        unit=key,
        samples=len(job.shard),
        meta={"invalid": soft.invalid},
    )
    reasons = {**dict(job.skip), **said.failed}
    record = UnitRecord(
        key,
        (output,),
        quarantine=tuple(
            Quarantined(source=str(job.shard.keys[row]), reason=reasons[row], stage=STAGE) for row in sorted(reasons)
        ),
        facts={"engine": said.engine} if said.engine else {},
    )
    cache.record(STAGE, record)
    return record
