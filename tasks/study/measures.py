"""What the table says of an arm beside its metrics: cost of its network, nearness to its teachers, over-fitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.storage.store import Store
from models.statistics.bootstrap import t_interval
from models.statistics.metrics import LOWER_IS_BETTER, metrics
from models.statistics.teacher_fit import FLOOR, teacher_fit
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabelReader
from tasks.study.networks import NetworkCost
from tasks.study.predictions import StudyPredictions
from tasks.study.runs import Ran


@dataclass(frozen=True)
class Measures:
    """Of one arm in one condition; None where unknown.

    Attributes:
        bytes: of the network's float32 ONNX file.
        latency_ms: of one image on one thread of the processor that made the table.
        teacher_kl, teacher_r2: from the teachers' mean on the plain view of the test images, means over seeds.
        train: the main metric on labelled training images, the mean over seeds.
        gap: how much better the main metric is there than on the test images, the mean over seeds.
        gap_interval: 95 %, Student's t over seeds; None for one seed.
    """

    bytes: int | None = None
    latency_ms: float | None = None
    teacher_kl: float | None = None
    teacher_r2: float | None = None
    train: float | None = None
    gap: float | None = None
    gap_interval: list[float] | None = None


def costed(cost: NetworkCost | None) -> dict[str, Any]:
    """Fields of `Measures` of a network."""
    return {} if cost is None else {"bytes": cost.bytes, "latency_ms": cost.latency_ms}


def teacher_of(store: Store, ran: Ran) -> dict[str, np.ndarray]:
    """Mean probabilities [C] of a condition's teachers for each labelled test image, by key; empty without teachers.

    They are those of the stored soft labels of the plain view; images without a valid one are left out.
    """
    if not ran.labels:
        return {}
    corpus = Corpus(store, ran.corpus)
    reader = SoftLabelReader(corpus, ran.labels)
    found = {}
    for number, shard in enumerate(corpus.shards):
        if shard.split != "test" or not shard.labelled.any():
            continue
        prob, valid = reader.probabilities(number, 0), reader.rows(number, 0).valid
        for row in np.flatnonzero(shard.labelled & valid).tolist():
            found[str(shard.keys[row])] = np.asarray(prob[row], np.float64)
    return found


def nearness(
    task: str, found: StudyPredictions, prob: Sequence[np.ndarray], teacher: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Fields of `Measures`: KL and R^2 of one arm to its teachers, means over its seeds.

    Args:
        prob: [N, C] of each seed on the test images of `found`.
        teacher: as of `teacher_of`.
    """
    rows = [row for row, key in enumerate(found.keys.tolist()) if key in teacher]
    if not rows:
        return {}
    theirs = np.stack([teacher[found.keys[row]] for row in rows])
    each = [teacher_fit(task, theirs, _logits(task, own[rows])) for own in prob]
    kl, r2 = (float(np.mean([one[name] for one in each])) for name in ("kl", "r2"))
    return {
        "teacher_kl": round(kl, 6) if np.isfinite(kl) else None,
        "teacher_r2": round(r2, 6) if np.isfinite(r2) else None,
    }


def over_fitting(
    found: StudyPredictions,
    metric: str,
    train: Sequence[Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]]],
    test: Sequence[np.ndarray],
    bins: int,
) -> dict[str, Any]:
    """Fields of `Measures`: the main metric on training images, and how much better it is than on test images.

    Args:
        train: of each seed and fold probabilities [M, C], label [M] and labels of its training images.
        test: probabilities [N, C] of the same seeds on the test images of `found`.
    """
    task = found.task
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    gaps, seen = [], []
    for folds, said in zip(train, test, strict=True):
        own = [metrics(task, prob, label, labels, bins=bins)[metric] for prob, label, labels in folds]
        unseen = metrics(task, said, found.label, found.labels, bins=bins)[metric]
        known = [value for value in own if value is not None]
        if unseen is None or len(known) < len(own):
            return {}
        seen.append(float(np.mean(known)))
        gaps.append(sign * (seen[-1] - unseen))
    span = t_interval(gaps)
    return {
        "train": round(float(np.mean(seen)), 6),
        "gap": round(float(np.mean(gaps)), 6),
        "gap_interval": None if span is None else [round(span[0], 6), round(span[1], 6)],
    }


def _logits(task: str, prob: np.ndarray) -> np.ndarray:
    """Logits that have these probabilities."""
    high = np.maximum(prob, FLOOR)
    return np.log(high) - np.log(np.maximum(1 - prob, FLOOR)) if task == "multilabel" else np.log(high)
