"""Temperature scaling of teachers on validation labels (Guo et al., arXiv 1706.04599), and what it brought.

Every threshold below reads a probability, so teachers are calibrated before anything else.
"""

from __future__ import annotations

import numpy as np

from models.statistics.calibration import fit_temperature
from models.statistics.metrics import probabilities, weighted
from tasks.data.corpus import Corpus
from tasks.data.soft_label_reader import Teaching


def calibrate(corpus: Corpus, teaching: Teaching, *, fit: bool) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Temperature of every teacher, and its NLL and ECE on labelled validation images before and after.

    Args:
        fit: False leaves every temperature at 1.

    Returns:
        temperatures by teacher; by teacher `images`, `nll`, `nll_raw`, `ece`, `ece_raw` (raw: at temperature 1;
        `models.statistics.metrics` defines both), or nothing where no validation image is labelled.
    """
    parts, labels = [], []
    for number, shard in enumerate(corpus.shards):
        if shard.split == "val":
            taught = teaching.rows(number, 0)
            use = taught.valid & shard.labelled
            parts.append(taught.logits[:, use])
            labels.append((shard.label if shard.labels is None else shard.labels)[use])
    if not sum(len(part) for part in labels):
        return dict.fromkeys(teaching.teachers, 1.0), {}
    logits, truth = np.concatenate(parts, axis=1), np.concatenate(labels)
    temperatures = {name: fit_temperature(logits[k], truth) if fit else 1.0 for k, name in enumerate(teaching.teachers)}
    figures = {}
    for k, (name, temperature) in enumerate(temperatures.items()):
        raw, scaled = (_figures(corpus.task, logits[k] / t, truth) for t in (1.0, temperature))
        figures[name] = {"images": len(truth), **scaled, **{f"{n}_raw": value for n, value in raw.items()}}
    return temperatures, figures


def _figures(task: str, logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    many = truth if truth.ndim == 2 else None
    prob = probabilities(task, logits)
    found = weighted(task, prob, truth, many, np.ones((len(prob), 1)), only=("nll", "ece"))
    return {name: round(float(value[0]), 4) for name, value in found.items()}
