"""From logits by model and shard to the arms of a comparison, and the images that these are judged on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infra.storage.manifest import Manifest
from models.statistics.metrics import probabilities
from tasks.data.corpus import Corpus
from tasks.evaluate.arms import ENSEMBLE, Arm, Truth
from tasks.evaluate.scope import JUDGED
from tasks.evaluate.units import Predictions


def truth_of(corpus: Corpus, split: str, found: Predictions) -> Truth:
    """The labelled images of a split that can be predicted."""
    return Truth.of([(s, found.judged(i, s)) for i, s in enumerate(corpus.shards) if s.split == split])


def arms_of(
    corpus: Corpus, models: Sequence[Manifest], found: Predictions, splits: Sequence[str] = JUDGED
) -> list[Arm]:
    """Every arm of some models with its seeds, then the mean of the teachers where there are several.

    Args:
        splits: that were predicted; of the others an arm has no rows.
    """

    def prob(model: int, split: str) -> np.ndarray:
        parts = [
            found.logits[model, i][found.judged(i, shard)]
            for i, shard in enumerate(corpus.shards)
            if split in splits and shard.split == split and shard.labelled.any()
        ]
        rows = np.concatenate(parts) if parts else np.zeros((0, len(corpus.classes)))
        return probabilities(corpus.task, rows)

    arms = []
    for name in dict.fromkeys(str(model.facts["arm"]) for model in models):
        own = [i for i, model in enumerate(models) if model.facts["arm"] == name]
        arms.append(
            Arm(
                name=name,
                seeds=tuple(int(models[i].facts["seed"]) for i in own),
                val=tuple(prob(i, "val") for i in own),
                test=tuple(prob(i, "test") for i in own),
                parameters=int(models[own[0]].facts["parameters"]),
                keys=tuple(models[i].key for i in own),
            )
        )
    teachers = [arm for arm in arms if arm.is_teacher]
    return arms if len(teachers) < 2 else [*arms, mean_of_arms(ENSEMBLE, teachers)]


def mean_of_arms(name: str, teachers: Sequence[Arm]) -> Arm:
    """The mean of the probabilities of several teachers, as one more teacher."""
    return Arm(
        name=name,
        seeds=(0,),
        val=(np.mean([arm.val[0] for arm in teachers], axis=0),),
        test=(np.mean([arm.test[0] for arm in teachers], axis=0),),
        parameters=sum(arm.parameters or 0 for arm in teachers),
    )
