"""The select stage: policy over stored soft labels, at no teacher time.

A temperature a teacher, fitted on validation labels (temperature scaling: Guo et al., On Calibration of Modern
Neural Networks, arXiv 1706.04599), and a weight a training sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.cache import StageCache
from infra.digest import unit_key
from infra.errors import UsageError
from infra.manifest import Manifest
from infra.store import Store
from tasks.catalog import from_parquet, to_parquet
from tasks.corpus import Corpus
from tasks.label.lookup import Teaching
from tasks.result import StageResult
from tasks.spec import SelectSection

STAGE = "select"
VERSION = 1
WEIGHTS = pa.schema(
    [
        ("key", pa.string()),  # of every training sample, in shard order
        ("weight", pa.float32()),  # 1 kept, 0 dropped
        ("confidence", pa.float32()),  # of the calibrated ensemble on the plain view; NaN where not taught
    ]
)
_REACH = math.log(100.0)
_GOLDEN = (math.sqrt(5.0) - 1) / 2


def select(corpus: Corpus, label_manifests: Sequence[Manifest], section: SelectSection, store: Store) -> StageResult:
    """Calibrate the teachers and weigh the training samples.

    Labelled samples keep weight 1. An unlabelled one gets 0 where the calibrated ensemble is less sure than
    `min_confidence`, or where no teacher could speak. Sureness is the largest mean probability, and for multilabel
    corpora the mean over classes of max(p, 1 - p).

    Raises:
        UsageError: no label manifest.
        CorruptError: a soft-label file is not what its manifest promises.
    """
    if not label_manifests:
        raise UsageError("select needs the soft labels of at least one teacher")
    catalog = corpus.manifest.output(kind="catalog")
    inputs = [catalog.id, *(shard.id for shard in corpus.shards), *(m.key for m in label_manifests)]
    key = unit_key(STAGE, VERSION, inputs=inputs, section=section.identity())
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key)
    if hit is not None and hit.whole:
        return StageResult(hit.manifest, made=0, total=1)

    teaching = Teaching(corpus, label_manifests)
    temperatures = _temperatures(corpus, teaching) if section.calibrate else {}
    table, facts = _weigh(corpus, teaching, temperatures, section.min_confidence)
    output = cache.put_object(
        f"weights/{corpus.title}/{{sha}}.parquet",
        to_parquet(table, WEIGHTS),
        samples=table.num_rows,
        unit=key,
        meta={"kind": "weights"},
    )
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=inputs,
        section=section.identity(),
        outputs=[output],
        facts={"temperatures": {t: temperatures.get(t, 1.0) for t in teaching.teachers}, **facts},
    )
    return StageResult(cache.commit(manifest), made=1, total=1)


def read_weights(store: Store, manifest: Manifest) -> dict[str, float]:
    """Weight of every training sample by key, from a select manifest."""
    table = from_parquet(store.get(manifest.output(kind="weights").name))
    return dict(zip(table["key"].to_pylist(), table["weight"].to_pylist(), strict=True))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T in [0.01, 100] that makes logits / T most likely.

    Args:
        logits: [N, C].
        labels: [N] int class numbers (softmax), or [N, C] with 1, 0 and -1 for unknown (sigmoid per class).

    Returns:
        T to four significant digits, so that the last bits of logits do not reach weights; 1 without labels.
    """
    known = labels >= 0
    if not known.any():
        return 1.0
    logits = logits.astype(np.float64)

    def loss(log_t: float) -> float:
        scaled = logits * math.exp(-log_t)
        if labels.ndim == 1:
            rows = np.flatnonzero(known)
            return float((_log_sum_exp(scaled[rows]) - scaled[rows, labels[rows]]).mean())
        # log(1 + e^x) - y x is the negative log-likelihood of a logit x.
        return float((np.logaddexp(0.0, scaled) - labels * scaled)[known].mean())

    return float(f"{math.exp(_minimum(loss, -_REACH, _REACH)):.4g}")


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden section search: the likelihood is convex in 1 / T, so it has one minimum in log T."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-6:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _temperatures(corpus: Corpus, teaching: Teaching) -> dict[str, float]:
    parts, labels = [], []
    for number, shard in enumerate(corpus.shards):
        if shard.split != "val":
            continue
        taught = teaching.rows(number, 0)
        use = taught.valid & shard.labelled
        parts.append(taught.logits[:, use])
        labels.append((shard.label if shard.labels is None else shard.labels)[use])
    if not parts:
        return {}
    logits, truth = np.concatenate(parts, axis=1), np.concatenate(labels)
    return {name: fit_temperature(logits[k], truth) for k, name in enumerate(teaching.teachers)}


def _weigh(
    corpus: Corpus, teaching: Teaching, temperatures: dict[str, float], least: float
) -> tuple[pa.Table, dict[str, Any]]:
    classes = len(corpus.classes)
    keys: list[str] = []
    weights, confidences = [], []
    taught_classes, prior = np.zeros(classes, dtype=np.int64), np.zeros(classes, dtype=np.int64)
    pool = 0
    for number, shard in enumerate(corpus.shards):
        if shard.split != "train":
            continue
        probability = teaching.probabilities(number, 0, temperatures)
        if shard.labels is None:
            confidence = probability.max(axis=1)
            votes = np.eye(classes, dtype=np.int64)[probability.argmax(axis=1)]
            prior += np.bincount(shard.label[shard.labelled], minlength=classes)
        else:
            confidence = np.maximum(probability, 1 - probability).mean(axis=1)
            votes = (probability >= 0.5).astype(np.int64)
            prior += (shard.labels == 1).sum(axis=0)
        confidence = np.where(teaching.rows(number, 0).valid, confidence, np.nan).astype(np.float32)
        # A NaN is below nothing, so the comparison is the other way round.
        kept = shard.labelled | (confidence >= np.float32(least))
        keys += [str(k) for k in shard.keys]
        weights.append(kept.astype(np.float32))
        confidences.append(confidence)
        taught_classes += votes[kept & ~shard.labelled].sum(axis=0)
        pool += int((~shard.labelled).sum())
    if not keys:
        raise UsageError(f"corpus {corpus.title} has no training samples to weigh")
    weight = np.concatenate(weights)
    table = pa.table({"key": keys, "weight": weight, "confidence": np.concatenate(confidences)})
    facts = {
        "kept": int(weight.sum()),
        "dropped": int((weight == 0).sum()),
        "unlabelled": pool,
        "pool_by_class": dict(zip(corpus.classes, taught_classes.tolist(), strict=True)),
        "labelled_by_class": dict(zip(corpus.classes, prior.tolist(), strict=True)),
    }
    return table, facts
