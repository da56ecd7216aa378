"""What stored teaching says of a corpus, counted in one pass: a shard at a time, in memory of constant size.

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
from models.statistics.counts import counted_ratio
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_label_reader import Teaching, sigmoid, softmax
from tasks.data.soft_labels import ALONE

BINS = 20  # of confidence, equally wide from 0 to 1
MOST_UNCERTAIN = 24
LABELLED, POOL, RIGHT, WRONG = range(4)  # rows of `Tally.confidence`


class Uncertain(NamedTuple):
    """One training image and what the ensemble makes of it; sorts by falling entropy, then by key."""

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
class Tally:
    """Counts; K teachers, and where they are several the ensemble (mean probability) after them.

    Rows that are not valid count nowhere; of the ensemble, rows that every teacher has valid answers for.
    """

    many: bool  # multilabel
    agreement: dict[tuple[int, int], np.ndarray]  # teachers a < b -> [P, Q, Q]: plain views, by what the two say
    val: np.ndarray  # [K or K + 1, P, Q, Q] int64: plain views of labelled validation images, truth by said
    val_images: np.ndarray  # [K or K + 1] int64
    prior: np.ndarray  # [C] int64: labelled training images that show the class
    known: np.ndarray  # [C] int64: labelled training images of which it is known whether they do
    mass: np.ndarray  # [C] float64: sum of the ensemble's probabilities over the pool
    top: np.ndarray  # [C] int64: images of the pool that the ensemble says show the class
    pool: int  # unlabelled training images ...
    pool_valid: int  # ... that every teacher answered
    confidence: np.ndarray  # [4, BINS] int64: ensemble on plain views; see LABELLED to WRONG
    views: dict[int, np.ndarray]  # random view -> [same, all] decisions compared with the plain view (one teacher)
    uncertain: list[Uncertain]  # training images, the most uncertain first


def tally(corpus: Corpus, manifests: Sequence[Manifest]) -> Tally:
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
    voices = count + (count > 1)
    found = Tally(
        many=many,
        agreement={pair: np.zeros((problems, outcomes, outcomes), np.int64) for pair in combinations(range(count), 2)},
        val=np.zeros((voices, problems, outcomes, outcomes), np.int64),
        val_images=np.zeros(voices, np.int64),
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
    # A file is read once, so nothing is worth keeping.
    teaching = [Teaching(corpus, [manifest], keep=1) for manifest in manifests]
    views: dict[int, list[int]] = {}
    for output in manifests[0].outputs_where(kind="soft") if count == 1 else []:
        views.setdefault(output.meta["shard"], []).append(output.meta["view"])
    for number, shard in enumerate(corpus.shards):
        plain = _Plain(teaching, number, shard, many)
        _add(found, shard, plain)
        for view in sorted(views.get(number, [])):
            if view:
                _compare(found, teaching[0], number, view, plain)
    return found


class _Plain:
    """All teachers on the plain views of one shard; the ensemble last where they are several."""

    def __init__(self, teaching: Sequence[Teaching], number: int, shard: Shard, many: bool) -> None:
        taught = [each.rows(number, 0) for each in teaching]
        self.prob = [probable(rows.logits[0], many) for rows in taught]  # each [N, C]
        self.valid = [rows.valid for rows in taught]  # each [N]
        if len(taught) > 1:
            self.prob.append(np.mean(self.prob, axis=0))
            self.valid.append(np.all(self.valid, axis=0))
        self.said = [decided(prob, many) for prob in self.prob]  # each [N, P]
        self.truth = shard.labels if shard.labels is not None else shard.label[:, None]  # [N, P], -1 unknown


def _add(found: Tally, shard: Shard, plain: _Plain) -> None:
    outcomes = found.val.shape[-1]
    for a, b in found.agreement:
        both = plain.valid[a] & plain.valid[b]
        found.agreement[a, b] += _tables(plain.said[a][both], plain.said[b][both], True, outcomes)
    if shard.split == "val":
        for voice, said in enumerate(plain.said):
            use = plain.valid[voice][:, None] & (plain.truth >= 0)
            found.val[voice] += _tables(plain.truth, said, use, outcomes)
            found.val_images[voice] += use.any(axis=1).sum()
    prob, said, valid = plain.prob[-1], plain.said[-1], plain.valid[-1]
    sure = np.maximum(prob, 1 - prob) if found.many else prob.max(axis=1, keepdims=True)  # [N, P]
    known = plain.truth >= 0
    if shard.split == "val":
        right = said == plain.truth
        found.confidence[RIGHT] += _histogram(sure[valid[:, None] & known & right])
        found.confidence[WRONG] += _histogram(sure[valid[:, None] & known & ~right])
    if shard.split != "train":
        return
    pool = ~shard.labelled
    found.confidence[LABELLED] += _histogram(sure[valid[:, None] & known])
    found.confidence[POOL] += _histogram(sure[valid & pool].ravel())
    found.pool += int(pool.sum())
    found.pool_valid += int((pool & valid).sum())
    found.mass += prob[pool & valid].sum(axis=0)
    found.top += _shown(said[pool & valid], found)
    found.prior += _shown(plain.truth, found)
    found.known += (plain.truth >= 0).sum(axis=0)
    _keep_uncertain(found, shard, prob, valid)


def _shown(outcome: np.ndarray, found: Tally) -> np.ndarray:
    """[C] how many of the outcomes [N, P] say that the class is shown; -1 says nothing."""
    if found.many:
        return np.asarray((outcome == 1).sum(axis=0))
    return np.bincount(outcome[outcome >= 0], minlength=len(found.top))


def _keep_uncertain(found: Tally, shard: Shard, prob: np.ndarray, valid: np.ndarray) -> None:
    level = entropy(prob, found.many)
    rows = np.flatnonzero(valid)
    rows = rows[np.lexsort((shard.keys[rows].astype(str), -level[rows]))][:MOST_UNCERTAIN]
    own = [Uncertain((-float(level[row]), str(shard.keys[row])), shard, int(row), prob[row]) for row in rows]
    found.uncertain = heapq.nsmallest(MOST_UNCERTAIN, [*found.uncertain, *own], key=lambda each: each.order)


def _compare(found: Tally, teaching: Teaching, number: int, view: int, plain: _Plain) -> None:
    taught = teaching.rows(number, view)
    use = taught.valid & plain.valid[0]
    if taught.partner is not None:
        # A mixture shows two images, so it need not be taken for either of them.
        use &= taught.partner == ALONE
    same = decided(probable(taught.logits[0], found.many), found.many)[use] == plain.said[0][use]
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


def entropy(prob: np.ndarray, many: bool) -> np.ndarray:
    """[N] in nats, of probabilities [N, C]; where `many` the mean over the labels of each one's entropy."""
    return (_surprise(prob) + _surprise(1 - prob)).mean(axis=1) if many else _surprise(prob).sum(axis=1)


def _surprise(prob: np.ndarray) -> np.ndarray:
    # p log p goes to 0 with p.
    return np.asarray(-prob * np.log(np.where(prob > 0, prob, 1.0)))


def accuracy(tables: np.ndarray) -> float | None:
    """Share of right decisions, or of equal ones, of tables [P, Q, Q]; None where nothing was counted."""
    total = int(tables.sum())
    return float(np.trace(tables, axis1=1, axis2=2).sum() / total) if total else None


def balanced(tables: np.ndarray) -> float | None:
    """Mean recall over the outcomes that occur, of tables [P, Q, Q], rows truth; None where none does."""
    recall = counted_ratio(np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2))
    return _mean(recall)


def kappa(tables: np.ndarray) -> float | None:
    """Cohen's kappa (Cohen 1960), of several problems their mean; None where both always say one and the same."""
    total = tables.sum(axis=(1, 2))
    observed = counted_ratio(np.trace(tables, axis1=1, axis2=2), total)
    chance = counted_ratio((tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1), total**2)
    return _mean(counted_ratio(observed - chance, 1 - chance))


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
