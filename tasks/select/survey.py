"""One pass over the soft labels of the training shards: all that the rules and the lists need, as columns.

Of labelled images the ensemble's confidence is kept, and what out-of-fold teachers say; of the unlabelled pool the
ensemble's probabilities, so that no later rule reads a soft label again. Memory: 4 (P + J) C bytes and some 30 bytes
an image, for P pool images, J judged ones and C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from infra.errors import UsageError
from tasks.data.corpus import Corpus
from tasks.data.soft_label_reader import Teaching
from tasks.select.measures import agreement, confidence, disagreement, entropy

READERS = 8
"""Threads that wait for the store."""


@dataclass(frozen=True)
class Survey:
    """Training images in shard order: N of them, P unlabelled, J labelled ones that out-of-fold teachers judged."""

    key: np.ndarray  # [N] str
    shard: np.ndarray  # [N] int32: number of the shard in the corpus
    row: np.ndarray  # [N] int32: row in the shard
    confidence: np.ndarray  # [N] float32 of the ensemble; NaN where some teacher could not speak
    pool: np.ndarray  # [P] int64 into N
    probability: np.ndarray  # [P, C] float32 of the ensemble; zeros where not valid
    agreement: np.ndarray  # [P] float32
    entropy: np.ndarray  # [P] float32, nats
    disagreement: np.ndarray  # [P] float32, nats
    judged: np.ndarray  # [J] int64 into N
    verdict: np.ndarray  # [J, C] float32: mean probability of the out-of-fold teachers
    given: np.ndarray  # [J] int32, or [J, C] int8 (multilabel): the labels

    @property
    def valid(self) -> np.ndarray:
        """[P] bool: pool images that every teacher could judge."""
        return ~np.isnan(self.confidence[self.pool])


def survey(
    corpus: Corpus,
    teaching: Teaching,
    temperatures: Mapping[str, float],
    *,
    views: int = 0,
    judges: Sequence[int] = (),
) -> Survey:
    """Read every soft label of the training split once.

    Args:
        views: random views averaged with the plain one, teacher by teacher; a view in which a row is not valid is
            left out of that row's mean.
        judges: positions in `teaching.teachers` of those whose logits of labelled images are out of fold.

    Raises:
        UsageError: no training image, or views that are not stored or are mixed with partners.
        CorruptError: a stored file is not what its manifest promises.
    """
    numbers = [number for number, shard in enumerate(corpus.shards) if shard.split == "train"]
    shards = [corpus.shards[number] for number in numbers]
    if not sum(len(shard) for shard in shards):
        raise UsageError(f"corpus {corpus.title} has no training samples to weigh")
    labelled = np.concatenate([shard.labelled for shard in shards])
    judged = np.flatnonzero(labelled) if judges else np.empty(0, np.int64)
    pool = np.flatnonzero(~labelled)
    classes = len(corpus.classes)
    found = Survey(
        key=np.concatenate([shard.keys for shard in shards]),
        shard=np.repeat(np.array(numbers, np.int32), [len(shard) for shard in shards]),
        row=np.concatenate([np.arange(len(shard), dtype=np.int32) for shard in shards]),
        confidence=np.full(len(labelled), np.nan, np.float32),
        pool=pool,
        probability=np.zeros((len(pool), classes), np.float32),
        agreement=np.zeros(len(pool), np.float32),
        entropy=np.zeros(len(pool), np.float32),
        disagreement=np.zeros(len(pool), np.float32),
        judged=judged,
        verdict=np.full((len(judged), classes), np.nan, np.float32),
        given=np.concatenate([s.label if s.labels is None else s.labels for s in shards])[judged],
    )
    stops = np.cumsum([len(shard) for shard in shards])
    many = corpus.task == "multilabel"

    def read(position: int) -> None:
        each, valid = _averaged(teaching, numbers[position], views, temperatures)
        mean = each.mean(axis=0)
        own = slice(int(stops[position]) - len(valid), int(stops[position]))
        found.confidence[own] = np.where(valid, confidence(mean, many=many), np.nan)
        ours = ~labelled[own] & valid
        # Where this shard's pool images stand among all pool images.
        at = np.searchsorted(pool, np.flatnonzero(ours) + own.start)
        found.probability[at] = mean[ours]
        found.agreement[at] = agreement(each[:, ours], mean[ours], many=many)
        found.entropy[at] = entropy(mean[ours], many=many)
        found.disagreement[at] = disagreement(each[:, ours], mean[ours], many=many)
        if judges:
            ours = labelled[own] & valid
            at = np.searchsorted(judged, np.flatnonzero(ours) + own.start)
            found.verdict[at] = each[list(judges)][:, ours].mean(axis=0)

    with ThreadPoolExecutor(READERS) as threads:
        for _ in threads.map(read, range(len(shards))):
            pass
    return _heard(found)


def _averaged(
    teaching: Teaching, number: int, views: int, temperatures: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over views of every teacher's probabilities, float64 [K, N, C]; bool [N]: rows valid in some view."""
    taught = teaching.rows(number, 0)
    total = teaching.each(number, 0, temperatures) * taught.valid[:, None]
    count = taught.valid.astype(np.int64)
    for view in range(1, 1 + views):
        taught = teaching.rows(number, view)
        if taught.partner is not None:
            raise UsageError(
                f"select.views is {views}, but stored views are mixed with partners and say nothing of single images: "
                "set select.views: 0, or views.mix: none and label again"
            )
        total += teaching.each(number, view, temperatures) * taught.valid[:, None]
        count += taught.valid
    return total / np.maximum(count, 1)[:, None], count > 0


def _heard(found: Survey) -> Survey:
    """Without the labelled images that the judges could not speak of."""
    spoke = ~np.isnan(found.verdict).any(axis=1)
    if spoke.all():
        return found
    return replace(found, judged=found.judged[spoke], verdict=found.verdict[spoke], given=found.given[spoke])
