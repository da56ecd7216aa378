"""Rankings of images: by score, unlabelled ones by how hard they are, labelled ones by likely label errors.

Ties go by the hash of the key, so that neither order nor names decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infra.digest import sha256_bytes
from tasks.select.ensemble import EnsembleStatistics

_TRACE = 1e-7
"""What rounding may do to the mean of equal probabilities."""


def first(scores: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Positions of the `count` highest scores, in no particular order.

    Args:
        scores: [N] numbers, no NaN.
        count: more than N gives all.
        keys: [N] str, unique.
    """
    if count >= len(scores):
        return np.arange(len(scores))
    if count <= 0:
        return np.empty(0, np.int64)
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    sure, tied = np.flatnonzero(scores > cut), np.flatnonzero(scores == cut)
    room = count - len(sure)
    if room < len(tied):
        tied = np.array(sorted(tied.tolist(), key=lambda n: _tie(keys[n]))[:room], np.int64)
    return np.concatenate([sure, tied])


def ranked(scores: np.ndarray, count: int, keys: np.ndarray) -> list[int]:
    """As `first`, highest score first."""
    return sorted(first(scores, count, keys).tolist(), key=lambda n: (-float(scores[n]), _tie(keys[n])))


def _tie(key: object) -> str:
    return sha256_bytes(str(key).encode())


def hardest(found: EnsembleStatistics, count: int) -> list[int]:
    """Positions in the pool of the hardest images that every teacher has valid predictions for.

    Two rankings are taken in turn: by entropy of the ensemble (images that are hard for every teacher) and by
    disagreement between teachers (images that each is sure of and that they predict differently: query by committee).
    Both are in nats and yet of other scale, so ranks are mixed, not values. Where teachers do not differ at all, one
    teacher for instance, entropy decides alone.
    """
    valid = np.flatnonzero(found.valid)
    keys = found.key[found.pool[valid]]
    apart = found.disagreement[valid] > 0
    split = np.flatnonzero(apart)
    lists = [
        ranked(found.entropy[valid], count, keys),
        [int(split[n]) for n in ranked(found.disagreement[valid][split], count, keys[split])],
    ]
    in_turn = [ranking[n] for n in range(count) for ranking in lists if n < len(ranking)]
    return [int(valid[n]) for n in dict.fromkeys(in_turn)][:count]


@dataclass(frozen=True)
class LabelErrors:
    """Suspected labels, largest margin first; [S] each."""

    row: np.ndarray  # int64: position among the images with out-of-fold predictions
    given: np.ndarray  # int64: class number; multilabel: of the class, whether its label is 1 or 0
    suggested: np.ndarray  # int64: class number; multilabel: 1 present, 0 absent
    margin: np.ndarray  # float64

    def __len__(self) -> int:
        return len(self.row)


def find_label_errors(probability: np.ndarray, given: np.ndarray, keys: np.ndarray) -> LabelErrors:
    """Likely label errors by confident learning (Northcutt et al., arXiv 1911.00068, section 3.1).

    The threshold of a class is the mean probability that it gets in the images labelled so. A label is suspected when
    its own probability is below its threshold and another class reaches its own: that class (the likeliest, if several
    do) is suggested, and the margin is its probability less the label's. Thresholds by class forgive teachers that are
    less sure of some classes. Only teachers that did not learn the label can find it wrong. Multilabel: every known
    label is such a question of its own, between present and absent.

    Args:
        probability: float32 [J, C], of teachers that did not learn these labels.
        given: int [J] class numbers, or [J, C] with 1, 0 and -1 for unknown.
        keys: [J] str; they break ties.
    """
    found = _many(probability, given) if given.ndim == 2 else _single(probability, given)
    order = np.lexsort((found.given, keys[found.row].astype(str), -found.margin))
    return LabelErrors(found.row[order], found.given[order], found.suggested[order], found.margin[order])


def _single(probability: np.ndarray, given: np.ndarray) -> LabelErrors:
    rows = np.arange(len(given))
    own = probability[rows, given].astype(np.float64)
    count = np.bincount(given, minlength=probability.shape[1])
    with np.errstate(invalid="ignore"):
        thresholds = np.bincount(given, own, minlength=probability.shape[1]) / count
    # A class that nobody was given has no threshold: NaN, which nothing reaches.
    rivals = np.where(probability >= thresholds - _TRACE, probability, -np.inf)
    rivals[rows, given] = -np.inf
    suggested = rivals.argmax(axis=1)
    best = rivals[rows, suggested].astype(np.float64)
    hit = np.flatnonzero((own < thresholds[given] - _TRACE) & np.isfinite(best))
    return LabelErrors(hit, given[hit].astype(np.int64), suggested[hit], (best - own)[hit])


def _many(probability: np.ndarray, given: np.ndarray) -> LabelErrors:
    parts = []
    for number in range(given.shape[1]):
        known = np.flatnonzero(given[:, number] >= 0)
        present = probability[known, number].astype(np.float64)
        both = np.stack([1 - present, present], axis=1)
        one = _single(both, given[known, number].astype(np.int64))
        parts.append((known[one.row], np.full(len(one), number), one.suggested, one.margin))
    row, label, suggested, margin = (np.concatenate(column) for column in zip(*parts, strict=True))
    return LabelErrors(row, label, suggested, margin)
