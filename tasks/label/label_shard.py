"""The worker's side of labelling: read, render, predict, store. May run twice without harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import cv2
import numpy as np

from infra.compute.stopping import stop_check
from infra.storage.manifest import Quarantined
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import Store, open_store
from models.engines.benchmark import ImageSample
from tasks.data.corpus import Shard, load_image
from tasks.data.soft_labels import LIMIT, to_soft_labels, write_soft_labels
from tasks.data.views import rendered, stored_partners
from tasks.label.costs import LabelRate
from tasks.label.job import STAGE, LabelIdentity, LabelJob, TeacherRequest
from tasks.label.kept_rows import KeptRows, quarantine_of_keys, read_kept_rows
from tasks.label.predictor import NetworkPredictor, TablePredictor, ViewPredictions, settle_engine
from tasks.teachers.outputs import to_logits
from tasks.teachers.teacher import TeacherModel

BLOCK, BLOCK_BYTES = 32, 64 << 20
"""Rows rendered together: at least so many, more where a teacher takes larger batches and they fit these bytes."""

TeacherPredictor: TypeAlias = NetworkPredictor | TablePredictor


def label_shard(job: LabelJob) -> list[UnitRecord]:
    """Label some views of one shard: store a soft-label file and leave a record for each.

    A row on which a teacher fails, or of which it says nothing finite, is kept out alone, with its reason; the others
    are labelled. A table may lack images that teach nobody: those of validation and test are then merely not valid.

    Raises:
        CorruptError: an image's bytes are not those ingested, or no image; shard and key are named.
        UsageError: a teacher cannot be built, its weights have another head, or it says probabilities where logits are
            expected.
        PermanentError: a teacher fails on every row of a batch.
        CancelledError: the flow asked to stop.
    """
    store = open_store(job.store)
    kept = read_kept_rows(store, [key for request in job.requests for key in request.kept])
    found = predict_views(job, store, kept=kept, stop=stop_check(job.topic))
    return [
        _store_view(job, store, request, view, key, predictions, kept.get(key))
        for request, each in zip(job.requests, found, strict=True)
        for (view, key), predictions in zip(request.views, each, strict=True)
    ]


def load_teachers(job: LabelJob) -> list[LabelRate]:
    """Load the teachers of a job and decide on the engines to begin with.

    Returns:
        The rate of each teacher: that of this worker's forward passes, where it was measured.
    """
    store = open_store(job.store)
    return [_predictor(job, request, store, begin=True).rate() for request in job.requests]


def label_or_settle(job: LabelJob) -> list[UnitRecord] | list[LabelRate]:
    """`label_shard`; or, for a job that is to settle engines, measure them and leave the choice in the store.

    Returns:
        Records, or the rate of each teacher whose engine was not settled.
    """
    if not job.settle:
        return label_shard(job)
    store = open_store(job.store)
    rates: list[LabelRate] = []
    for request in job.requests:
        predictor = _predictor(job, request, store)
        if isinstance(predictor, NetworkPredictor) and not predictor.networks[0].settled:
            settle_engine(request.teacher, job.inference, store, partial(_sample, job, store))
            rates.append(_predictor(job, request, store).rate())
    return rates


def probe(job: LabelJob, rows: Sequence[int]) -> None:
    """Do with some rows all that labelling does, but store nothing: for the search for rows that kill workers."""
    predict_views(job, open_store(job.store), rows=rows)


def predict_views(
    job: LabelJob,
    store: Store,
    *,
    rows: Sequence[int] | None = None,
    kept: Mapping[str, KeptRows] | None = None,
    stop: Callable[[], None] = lambda: None,
) -> list[list[ViewPredictions]]:
    """Predictions of every teacher of the job: for each request, for each of its views.

    Args:
        rows: the rows to read; default all but those that the job skips.
        kept: by key of a unit, rows that need no prediction; a row is left out where no unit needs it.
        stop: called between batches; raises when the run is to end.
    """
    cv2.setNumThreads(1)
    shard, skipped = job.shard, dict(job.skip)
    if rows is None:
        rows = [row for row in range(len(shard)) if row not in skipped]
    # No row but these may be read, not even as another row's partner in a mixed view.
    others = set(range(len(shard))).difference(rows)
    partner = {view: stored_partners(job.recipe, view, shard, others) for view in job.views}
    found = [[_empty(job, request, partner[view]) for view, _ in request.views] for request in job.requests]
    rows = _unknown(job, rows, kept or {}, partner)
    if not rows:
        return found
    predictors = [_predictor(job, request, store) for request in job.requests]
    sizes = {view: _sizes(job, predictors, view) for view in job.views}
    load = partial(load_image, store, shard)
    size = _block(predictors, sizes)
    for block, images in rendered(
        load, shard, job.recipe, sizes, partner, rows, threads=job.inference.threads, block=size
    ):
        for request, predictor, each in zip(job.requests, predictors, found, strict=True):
            for (view, _), predictions in zip(request.views, each, strict=True):
                stop()
                predictor.predict(predictions, block, images, view)
    return found


def _unknown(
    job: LabelJob, rows: Sequence[int], kept: Mapping[str, KeptRows], partner: Mapping[int, np.ndarray | None]
) -> list[int]:
    """The rows that some unit needs to have predicted."""
    needed = np.zeros(len(job.shard), dtype=bool)
    for view, key in (each for request in job.requests for each in request.views):
        needed |= ~kept[key].still_known(partner[view]) if key in kept else True
    return [row for row in rows if needed[row]]


def _predictor(job: LabelJob, request: TeacherRequest, store: Store, *, begin: bool = False) -> TeacherPredictor:
    if request.teacher.kind == "table":
        return TablePredictor(request, job.shard, store, BLOCK)
    return NetworkPredictor(request, job.shard, job.inference, store, partial(_sample, job, store), begin=begin)


def _sizes(job: LabelJob, predictors: Sequence[TeacherPredictor], view: int) -> set[int]:
    pairs = zip(job.requests, predictors, strict=True)
    return {predictor.size for request, predictor in pairs if predictor.size and view in dict(request.views)}


def _block(predictors: Sequence[TeacherPredictor], sizes: dict[int, set[int]]) -> int:
    row = sum(3 * side**2 for sides in sizes.values() for side in sides)
    return max(BLOCK, min(max(predictor.batch for predictor in predictors), BLOCK_BYTES // max(1, row)))


def _empty(job: LabelJob, request: TeacherRequest, partner: np.ndarray | None) -> ViewPredictions:
    count = len(job.shard)
    logits = np.zeros((count, request.teacher.num_classes), dtype=np.float32)
    return ViewPredictions(logits, np.zeros(count, dtype=bool), partner)


def _sample(job: LabelJob, store: Store, size: int) -> ImageSample:
    """Views to measure with: the job's first view of the shard's images."""
    skipped, view = dict(job.skip), job.views[0]
    rows = [row for row in range(len(job.shard)) if row not in skipped]
    load, threads = partial(load_image, store, job.shard), job.inference.threads

    def render(start: int, stop: int) -> np.ndarray:
        chosen, sides = rows[start:stop], {view: {size}}
        blocks = rendered(load, job.shard, job.recipe, sides, {view: None}, chosen, threads=threads, block=BLOCK)
        return np.concatenate([images[view, size] for _, images in blocks])

    return ImageSample(len(rows), render)


def _store_view(
    job: LabelJob,
    store: Store,
    request: TeacherRequest,
    view: int,
    key: str,
    found: ViewPredictions,
    kept: KeptRows | None,
) -> UnitRecord:
    cache = StageCache(store)
    said = found.logits.copy()
    rows = np.flatnonzero(found.predicted)
    said[rows] = to_logits(request.teacher, found.logits[rows], job.shard.keys[rows], many=job.inference.many)
    soft = to_soft_labels(said, predicted=found.predicted, partner=found.partner, features=found.features)
    known = np.zeros(len(job.shard), dtype=bool)
    if kept is not None:
        known = kept.still_known(found.partner)
        soft = kept.filled(soft, known)
    output = cache.put_object(
        request.object_name(job.title, job.recipe, view, key),
        write_soft_labels(soft),
        id=key,
        unit=key,
        samples=len(job.shard),
        meta={"invalid": soft.invalid},
    )
    reasons = {**_unanswered(job.shard, request.teacher, found.predicted, soft.valid), **dict(job.skip), **found.failed}
    quarantine = [
        Quarantined(source=str(job.shard.keys[row]), reason=reasons[row], stage=STAGE)
        for row in sorted(reasons)
        if not known[row]
    ]
    engine: dict[str, Any] | None = found.engine
    if kept is not None:
        quarantine += quarantine_of_keys(kept.quarantine, set(job.shard.keys[known].tolist()))
        engine = engine or kept.engine
    identity = LabelIdentity.of(job.shard.id, request.teacher, job.recipe, view, request.folds)
    facts = {**identity.facts, **({"engine": engine} if engine else {})}
    record = UnitRecord(key, (output,), tuple(quarantine), facts)
    cache.record(STAGE, record)
    return record


def _unanswered(shard: Shard, teacher: TeacherModel, predicted: np.ndarray, valid: np.ndarray) -> dict[int, str]:
    """Rows of which a teacher said nothing that can be used, and why."""
    reasons = {
        int(row): f"teacher {teacher.name}: it says NaN, infinity or a value past {LIMIT:,.0f}"
        for row in np.flatnonzero(predicted & ~valid)
    }
    if teacher.kind == "table" and shard.split == "train":
        lacking = f"teacher {teacher.name}: its table has no logits of this image"
        reasons |= {int(row): lacking for row in np.flatnonzero(~predicted)}
    return reasons
