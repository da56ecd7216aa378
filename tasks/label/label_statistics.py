"""Statistics of stored soft labels, counted in one pass: a shard at a time, in memory of constant size.

Every corpus is seen as P problems of Q outcomes: single and ordinal corpora are one problem whose outcomes are the C
classes, a multilabel corpus is C problems of two outcomes, each decided at 0.5.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from infra.storage.manifest import Manifest
from models.augmentation.draws import NO_PARTNER
from models.statistics.counts import counted_ratio
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import SoftLabelReader, entropy, sigmoid, softmax

BINS = 20  # of confidence, equally wide from 0 to 1
MOST_UNCERTAIN = 24
LABELLED, POOL, RIGHT, WRONG = range(4)  # rows of `LabelStatistics.confidence`


class UncertainImage(NamedTuple):
    """One training image and its ensemble prediction; sorts by falling entropy, then by key."""

    order: tuple[float, str]
    shard: Shard
    row: int
    prob: np.ndarray  # [C]

    @property
    def entropy(self) -> float:
        """In nats; multilabel: the mean over the labels."""
        return -self.order[0]

    @property
    def key(self) -> str:
        """Of the image."""
        return self.order[1]


@dataclass
class LabelStatistics:
    """Counts; K teachers, and where they are several the ensemble (mean probability) after them.

    Rows that are not valid count nowhere; of the ensemble, rows that every teacher has valid predictions for.
    """

    many: bool  # multilabel
    agreement: dict[tuple[int, int], np.ndarray]  # teachers a < b -> [P, Q, Q]: plain views, by both decisions
    val: np.ndarray  # [K or K + 1, P, Q, Q] int64: plain views of labelled validation images, truth by decision
    val_images: np.ndarray  # [K or K + 1] int64
    prior: np.ndarray  # [C] int64: labelled training images that show the class
    known: np.ndarray  # [C] int64: labelled training images of which it is known whether they do
    mass: np.ndarray  # [C] float64: sum of the ensemble's probabilities over the pool
    top: np.ndarray  # [C] int64: images of the pool in which the ensemble sees the class
    pool: int  # unlabelled training images ...
    pool_valid: int  # ... that every teacher has a valid prediction for
    confidence: np.ndarray  # [4, BINS] int64: ensemble on plain views; see LABELLED to WRONG
    views: dict[int, np.ndarray]  # random view -> [same, all] decisions compared with the plain view (one teacher)
    uncertain: list[UncertainImage]  # training images, the most uncertain first


def label_statistics(corpus: Corpus, manifests: Sequence[Manifest]) -> LabelStatistics:
    """Count over the stored labels of a run.

    Args:
        manifests: one label manifest a teacher, of this corpus.

    Raises:
        UsageError: a manifest has no plain view of some shard.
        CorruptError: a stored file is not what its manifest promises.
    """
    count, classes = len(manifests), len(corpus.classes)
    many = corpus.task == "multilabel"
    problems, outcomes = (classes, 2) if many else (1, classes)
    rated = count + (count > 1)
    found = LabelStatistics(
        many=many,
        agreement={pair: np.zeros((problems, outcomes, outcomes), np.int64) for pair in combinations(range(count), 2)},
        val=np.zeros((rated, problems, outcomes, outcomes), np.int64),
        val_images=np.zeros(rated, np.int64),
        prior=np.zeros(classes, np.int64),
        known=np.zeros(classes, np.int64),
        mass=np.zeros(classes),
        top=np.zeros(classes, np.int64),
        pool=0,
        pool_valid=0,
        confidence=np.zeros((4, BINS), np.int64),
        views={},
        uncertain=[],
    )
    # A file is read once, so caching is of no use.
    readers = [SoftLabelReader(corpus, [manifest], max_bytes=1) for manifest in manifests]
    views: dict[int, list[int]] = {}
    for output in manifests[0].outputs_where(kind="soft") if count == 1 else []:
        views.setdefault(output.meta["shard"], []).append(output.meta["view"])
    for number, shard in enumerate(corpus.shards):
        plain = _Plain(readers, number, shard, many)
        _add(found, shard, plain)
        for view in sorted(views.get(number, [])):
            if view:
                _compare(found, readers[0], number, view, plain)
    return found


class _Plain:
    """All teachers on the plain views of one shard; the ensemble last where they are several."""

    def __init__(self, readers: Sequence[SoftLabelReader], number: int, shard: Shard, many: bool) -> None:
        predictions = [each.rows(number, 0) for each in readers]
        self.prob = [probable(each.logits[0], many) for each in predictions]  # each [N, C]
        self.valid = [each.valid for each in predictions]  # each [N]
        if len(predictions) > 1:
            self.prob.append(np.mean(self.prob, axis=0))
            self.valid.append(np.all(self.valid, axis=0))
        self.decision = [decided(prob, many) for prob in self.prob]  # each [N, P]
        self.truth = shard.labels if shard.labels is not None else shard.label[:, None]  # [N, P], -1 unknown


def _add(found: LabelStatistics, shard: Shard, plain: _Plain) -> None:
    outcomes = found.val.shape[-1]
    for a, b in found.agreement:
        both = plain.valid[a] & plain.valid[b]
        found.agreement[a, b] += _tables(plain.decision[a][both], plain.decision[b][both], True, outcomes)
    if shard.split == "val":
        for number, decision in enumerate(plain.decision):
            use = plain.valid[number][:, None] & (plain.truth >= 0)
            found.val[number] += _tables(plain.truth, decision, use, outcomes)
            found.val_images[number] += use.any(axis=1).sum()
    prob, decision, valid = plain.prob[-1], plain.decision[-1], plain.valid[-1]
    sure = np.maximum(prob, 1 - prob) if found.many else prob.max(axis=1, keepdims=True)  # [N, P]
    known = plain.truth >= 0
    if shard.split == "val":
        right = decision == plain.truth
        found.confidence[RIGHT] += _histogram(sure[valid[:, None] & known & right])
        found.confidence[WRONG] += _histogram(sure[valid[:, None] & known & ~right])
    if shard.split != "train":
        return
    pool = ~shard.labelled & shard.used
    found.confidence[LABELLED] += _histogram(sure[valid[:, None] & known])
    found.confidence[POOL] += _histogram(sure[valid & pool].ravel())
    found.pool += int(pool.sum())
    found.pool_valid += int((pool & valid).sum())
    found.mass += prob[pool & valid].sum(axis=0)
    found.top += _shown(decision[pool & valid], found)
    found.prior += _shown(plain.truth, found)
    found.known += (plain.truth >= 0).sum(axis=0)
    _add_uncertain(found, shard, prob, valid)


def _shown(outcome: np.ndarray, found: LabelStatistics) -> np.ndarray:
    """[C] how many of the outcomes [N, P] show the class; -1 is unknown."""
    if found.many:
        return np.asarray((outcome == 1).sum(axis=0))
    return np.bincount(outcome[outcome >= 0], minlength=len(found.top))


def _add_uncertain(found: LabelStatistics, shard: Shard, prob: np.ndarray, valid: np.ndarray) -> None:
    level = entropy(prob, many=found.many)
    rows = np.flatnonzero(valid)
    rows = rows[np.lexsort((shard.keys[rows].astype(str), -level[rows]))][:MOST_UNCERTAIN]
    own = [UncertainImage((-float(level[row]), str(shard.keys[row])), shard, int(row), prob[row]) for row in rows]
    found.uncertain = heapq.nsmallest(MOST_UNCERTAIN, [*found.uncertain, *own], key=lambda each: each.order)


def _compare(found: LabelStatistics, reader: SoftLabelReader, number: int, view: int, plain: _Plain) -> None:
    rows = reader.rows(number, view)
    use = rows.valid & plain.valid[0]
    if rows.partner is not None:
        # A mixture shows two images, so it need not be taken for either of them.
        use &= rows.partner == NO_PARTNER
    same = decided(probable(rows.logits[0], found.many), found.many)[use] == plain.decision[0][use]
    found.views.setdefault(view, np.zeros(2, np.int64))
    found.views[view] += (int(same.sum()), same.size)


def _tables(first: np.ndarray, second: np.ndarray, use: np.ndarray | bool, outcomes: int) -> np.ndarray:
    """[P, Q, Q] how often `first` [N, P] is the row and `second` the column, where `use` [N, P]."""
    problems = first.shape[1]
    cell = (np.arange(problems) * outcomes + first) * outcomes + second
    counted = np.bincount(cell[use].ravel(), minlength=problems * outcomes**2)
    return counted.reshape(problems, outcomes, outcomes)


def _histogram(values: np.ndarray) -> np.ndarray:
    return np.bincount(np.minimum((values * BINS).astype(np.int64), BINS - 1), minlength=BINS)


def probable(logits: np.ndarray, many: bool) -> np.ndarray:
    """float64 [N, C]: softmax, or sigmoid where `many`."""
    return sigmoid(logits.astype(np.float64)) if many else softmax(logits.astype(np.float64))


def decided(prob: np.ndarray, many: bool) -> np.ndarray:
    """int [N, P]: the likeliest class [N, 1], or where `many` whether each label is at least as likely as not."""
    return (prob >= 0.5).astype(np.int64) if many else prob.argmax(axis=1)[:, None]


def accuracy(tables: np.ndarray) -> float | None:
    """Share of right decisions, or of equal ones, of tables [P, Q, Q]; None where nothing was counted."""
    total = int(tables.sum())
    return float(np.trace(tables, axis1=1, axis2=2).sum() / total) if total else None


def balanced(tables: np.ndarray) -> float | None:
    """Mean recall over the outcomes that occur, of tables [P, Q, Q], rows truth; None where none does."""
    recall = counted_ratio(np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2))
    return _mean(recall)


def kappa(tables: np.ndarray) -> float | None:
    """Cohen's kappa (Cohen 1960), of several problems their mean; None where both always decide the same."""
    total = tables.sum(axis=(1, 2))
    observed = counted_ratio(np.trace(tables, axis1=1, axis2=2), total)
    chance = counted_ratio((tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1), total**2)
    return _mean(counted_ratio(observed - chance, 1 - chance))


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
