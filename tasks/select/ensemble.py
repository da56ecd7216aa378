"""The calibrated ensemble of teachers: a temperature for each, then statistics of every training image.

Temperature scaling on validation labels (Guo et al., arXiv 1706.04599) comes first, because every rule after it reads a
probability. One pass over the soft labels of the training shards then gives all that the rules and the lists need, as
columns, so that no later rule reads a soft label again: the ensemble's confidence in every image; its probabilities of
the unlabelled pool; the out-of-fold probabilities of labelled images. Memory: 4 (P + J) C bytes and some 30 bytes an
image, for P pool images, J labelled ones with out-of-fold predictions and C classes.

Shapes: K teachers, N rows, C classes. `each` [K, N, C] are the teachers' probabilities, `mean` [N, C] the ensemble's.
Single and ordinal corpora: rows sum to 1, and the top class counts. Multilabel corpora: every class is a decision of
its own at 0.5, and a row's number is the mean over its classes; there is no top class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from infra.errors import UsageError
from models.statistics.calibration import fit_temperature
from models.statistics.metrics import probabilities, weighted
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabelReader, TeacherPredictions, entropy

READERS = 8
"""Threads that wait for the store."""


def calibrate(
    corpus: Corpus, reader: SoftLabelReader, *, fit: bool, views: int = 0
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Temperature of every teacher, and its NLL and ECE on labelled validation images before and after.

    Args:
        fit: False leaves every temperature at 1.
        views: random views averaged with the plain one, as in `ensemble_statistics`; each view's logits are divided
            by the temperature before their probabilities are averaged. A row counts where all its views are valid.

    Returns:
        temperatures by teacher; by teacher `images`, `nll`, `nll_raw`, `ece`, `ece_raw` (raw: at temperature 1;
        `models.statistics.metrics` defines both), or nothing where no validation image is labelled. Averages say over
        how many `views` they are.

    Raises:
        UsageError: views of validation images that are not stored.
        CorruptError: a stored file is not what its manifest promises.
    """
    parts, labels = [], []
    for number, shard in enumerate(corpus.shards):
        if shard.split == "val":
            seen = [reader.rows(number, view) for view in range(1 + views)]
            use = np.all([rows.valid for rows in seen], axis=0) & shard.labelled
            parts.append(np.stack([rows.logits[:, use] for rows in seen], axis=1))
            labels.append((shard.label if shard.labels is None else shard.labels)[use])
    if not sum(len(part) for part in labels):
        return dict.fromkeys(reader.teachers, 1.0), {}
    logits, truth = np.concatenate(parts, axis=2), np.concatenate(labels)
    if not views:
        logits = logits[:, 0]
    temperatures = {name: fit_temperature(logits[k], truth) if fit else 1.0 for k, name in enumerate(reader.teachers)}
    figures = {}
    for k, (name, temperature) in enumerate(temperatures.items()):
        raw, scaled = (_figures(corpus.task, logits[k] / t, truth) for t in (1.0, temperature))
        averaged = {"views": 1 + views} if views else {}
        figures[name] = {"images": len(truth), **averaged, **scaled, **{f"{n}_raw": value for n, value in raw.items()}}
    return temperatures, figures


def _figures(task: str, logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    many = truth if truth.ndim == 2 else None
    prob = (
        probabilities(task, logits) if logits.ndim == 2 else np.mean([probabilities(task, z) for z in logits], axis=0)
    )
    found = weighted(task, prob, truth, many, np.ones((len(prob), 1)), only=("nll", "ece"))
    return {name: round(float(value[0]), 4) for name, value in found.items()}


@dataclass(frozen=True)
class EnsembleStatistics:
    """Training images in shard order: N of them, P unlabelled, J labelled ones that have
    out-of-fold predictions.
    """

    key: np.ndarray  # [N] str
    shard: np.ndarray  # [N] int32: number of the shard in the corpus
    row: np.ndarray  # [N] int32: row in the shard
    used: np.ndarray  # [N] bool: the spec uses it
    confidence: np.ndarray  # [N] float32 of the ensemble; NaN where some teacher has no valid prediction
    pool: np.ndarray  # [P] int64 into N
    probability: np.ndarray  # [P, C] float32 of the ensemble; zeros where not valid
    agreement: np.ndarray  # [P] float32
    entropy: np.ndarray  # [P] float32, nats
    disagreement: np.ndarray  # [P] float32, nats
    out_of_fold: np.ndarray  # [J] int64 into N: labelled images with out-of-fold predictions
    out_of_fold_probability: np.ndarray  # [J, C] float32: mean over the out-of-fold teachers
    given: np.ndarray  # [J] int32, or [J, C] int8 (multilabel): their labels

    @property
    def valid(self) -> np.ndarray:
        """[P] bool: pool images that every teacher has valid predictions for."""
        return ~np.isnan(self.confidence[self.pool])


def ensemble_statistics(
    corpus: Corpus,
    reader: SoftLabelReader,
    temperatures: Mapping[str, float],
    *,
    views: int = 0,
    fold_teachers: Sequence[int] = (),
) -> EnsembleStatistics:
    """Read every soft label of the training split once.

    Args:
        views: random views averaged with the plain one, teacher by teacher; a view in which a row is not valid is
            left out of that row's mean.
        fold_teachers: positions in `reader.teachers` of those whose logits of labelled images are out of fold.

    Raises:
        UsageError: no training image, or views that are not stored or are mixed with partners.
        CorruptError: a stored file is not what its manifest promises.
    """
    numbers = [number for number, shard in enumerate(corpus.shards) if shard.split == "train"]
    shards = [corpus.shards[number] for number in numbers]
    if not sum(len(shard) for shard in shards):
        raise UsageError(f"corpus {corpus.title} has no training samples to weigh")
    labelled = np.concatenate([shard.labelled for shard in shards])
    out_of_fold = np.flatnonzero(labelled) if fold_teachers else np.empty(0, np.int64)
    used = np.concatenate([shard.used for shard in shards])
    pool = np.flatnonzero(~labelled & used)
    classes = len(corpus.classes)
    found = EnsembleStatistics(
        key=np.concatenate([shard.keys for shard in shards]),
        shard=np.repeat(np.array(numbers, np.int32), [len(shard) for shard in shards]),
        row=np.concatenate([np.arange(len(shard), dtype=np.int32) for shard in shards]),
        used=used,
        confidence=np.full(len(labelled), np.nan, np.float32),
        pool=pool,
        probability=np.zeros((len(pool), classes), np.float32),
        agreement=np.zeros(len(pool), np.float32),
        entropy=np.zeros(len(pool), np.float32),
        disagreement=np.zeros(len(pool), np.float32),
        out_of_fold=out_of_fold,
        out_of_fold_probability=np.full((len(out_of_fold), classes), np.nan, np.float32),
        given=np.concatenate([s.label if s.labels is None else s.labels for s in shards])[out_of_fold],
    )
    stops = np.cumsum([len(shard) for shard in shards])
    many = corpus.task == "multilabel"

    def read(position: int) -> None:
        each, valid = _averaged(reader, numbers[position], views, temperatures)
        mean = each.mean(axis=0)
        own = slice(int(stops[position]) - len(valid), int(stops[position]))
        found.confidence[own] = np.where(valid, confidence(mean, many=many), np.nan)
        mine = ~labelled[own] & valid & shards[position].used
        # Where this shard's pool images stand among all pool images.
        at = np.searchsorted(pool, np.flatnonzero(mine) + own.start)
        found.probability[at] = mean[mine]
        found.agreement[at] = agreement(each[:, mine], mean[mine], many=many)
        found.entropy[at] = entropy(mean[mine], many=many)
        found.disagreement[at] = disagreement(each[:, mine], mean[mine], many=many)
        if fold_teachers:
            mine = labelled[own] & valid
            at = np.searchsorted(out_of_fold, np.flatnonzero(mine) + own.start)
            found.out_of_fold_probability[at] = each[list(fold_teachers)][:, mine].mean(axis=0)

    with ThreadPoolExecutor(READERS) as threads:
        for _ in threads.map(read, range(len(shards))):
            pass
    return _predicted(found)


def _averaged(
    reader: SoftLabelReader, number: int, views: int, temperatures: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over views of every teacher's probabilities, float64 [K, N, C]; bool [N]: rows valid in some view."""
    rows = reader.rows(number, 0)
    total = reader.each(number, 0, temperatures) * rows.valid[:, None]
    count = rows.valid.astype(np.int64)
    for view in range(1, 1 + views):
        rows = reader.rows(number, view)
        check_single(rows, views)
        total += reader.each(number, view, temperatures) * rows.valid[:, None]
        count += rows.valid
    return total / np.maximum(count, 1)[:, None], count > 0


def check_single(rows: TeacherPredictions, views: int) -> None:
    """Whether a random view shows single images.

    Raises:
        UsageError: it is mixed with partners.
    """
    if rows.partner is not None:
        raise UsageError(
            f"select.views is {views}, but stored views are mixed with partners and do not show single images: "
            "set select.views: 0, or views.mix: none and label again"
        )


def _predicted(found: EnsembleStatistics) -> EnsembleStatistics:
    """Without the labelled images that a fold teacher has no valid prediction for."""
    known = ~np.isnan(found.out_of_fold_probability).any(axis=1)
    if known.all():
        return found
    return replace(
        found,
        out_of_fold=found.out_of_fold[known],
        out_of_fold_probability=found.out_of_fold_probability[known],
        given=found.given[known],
    )


def confidence(mean: np.ndarray, *, many: bool) -> np.ndarray:
    """[N]: the largest probability; multilabel: mean over classes of max(p, 1 - p)."""
    return np.asarray(np.maximum(mean, 1 - mean).mean(axis=-1) if many else mean.max(axis=-1))


def agreement(each: np.ndarray, mean: np.ndarray, *, many: bool) -> np.ndarray:
    """[N] in 0..1: share of teachers whose top class is the ensemble's; multilabel: whose decision is, mean over C."""
    if many:
        return np.asarray(((each >= 0.5) == (mean >= 0.5)).mean(axis=(0, 2)))
    return np.asarray((each.argmax(axis=-1) == mean.argmax(axis=-1)).mean(axis=0))


def disagreement(each: np.ndarray, mean: np.ndarray, *, many: bool) -> np.ndarray:
    """[N]: generalised Jensen-Shannon divergence in nats, H(mean of p_k) - mean of H(p_k) (Lin 1991); 0 for K = 1."""
    apart = entropy(mean, many=many) - entropy(each, many=many).mean(axis=0)
    # Rounding may leave a trace below zero.
    return np.asarray(np.maximum(apart, 0))
