"""How good a student's weights are on the labelled validation images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.augmentation.draws import Recipe, draw
from models.augmentation.rendering import render, to_input
from models.networks.build import Built, build
from models.statistics.metrics import metrics, probabilities
from tasks.data.corpus import Corpus
from tasks.distill.images import IMAGES
from tasks.distill.job import TrainJob

TOGETHER = 64
"""Images a forward pass."""

Validate = Callable[[dict[str, Tensor]], dict[str, float]]


def validator(corpus: Corpus, built: Built, options: Mapping[str, Any], job: TrainJob) -> Validate:
    """A function from weights to metrics `val_*` of the plain view.

    It tells nothing where no validation image has a label. A metric that is undefined is left out, but for the one that
    the training goes by, which is then NaN.

    Args:
        built: the student.
        options: keyword arguments that rebuild it.
    """
    shards = corpus.of_split("val")
    rows = [(shard, int(row)) for shard in shards for row in np.flatnonzero(shard.labelled)]
    label = np.array([shard.label[row] for shard, row in rows])
    labels = np.stack([s.labels[r] for s, r in rows]) if rows and shards[0].labels is not None else None  # type: ignore[index]
    recipe = Recipe.from_values(job.views)

    @cache
    def network() -> nn.Module:
        # Not the student itself: that one has hooks, wrappers and weights of another moment.
        again = build(job.model, num_classes=len(corpus.classes), options=options, size=job.input_size)
        return again.module.to(job.device)

    def validate(weights: dict[str, Tensor]) -> dict[str, float]:
        if not rows:
            return {}
        network().load_state_dict(weights)
        logits = []
        for start in range(0, len(rows), TOGETHER):
            block = rows[start : start + TOGETHER]
            views = np.stack(
                [
                    render(IMAGES.get(corpus, shard, row), recipe, draw(recipe, 0, str(shard.keys[row])))
                    for shard, row in block
                ]
            )
            x = torch.from_numpy(to_input(views, job.input_size, built.mean, built.std)).to(job.device)
            with torch.inference_mode():
                logits.append(network()(x).float().cpu().numpy())
        found = metrics(corpus.task, probabilities(corpus.task, np.concatenate(logits)), label, labels)
        told = {f"val_{name}": math.nan if value is None else float(value) for name, value in found.items()}
        return {name: value for name, value in told.items() if name == job.metric or not math.isnan(value)}

    return validate
