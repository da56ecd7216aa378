"""What three steps of distillation cost on fixed shards, kept per version of the stage."""

from __future__ import annotations

import numpy as np
import torch

from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from models.losses.terms import default_terms
from models.networks.build import build
from models.training.config import TrainConfig
from models.training.objective import Objective
from models.training.trainer import Trainer
from tasks.data.corpus import Shard
from tasks.data.soft_labels import SoftLabelReader
from tasks.distill.batches import TrainData
from tasks.distill.request import DISTILL_NAME, VERSION
from tests.golden.guard import check
from tests.tiny import tiny_corpus, tiny_labels


def opinions(shard: Shard, view: int) -> np.ndarray:
    """Logits [N, 3] that depend on nothing but row and view."""
    rows = np.arange(len(shard))[:, None] + view
    return np.sin(rows * np.array([1.0, 2.0, 3.0])).astype(np.float32) * 3


def test_losses_of_three_steps(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    built = build("micro_xs", num_classes=3, seed=0)
    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "t", opinions, views=2)])
    data = TrainData(corpus, ViewRecipe(48), 2, teaching, {}, seed=0, batch=8, size=48, mean=built.mean, std=built.std)
    config = TrainConfig(steps=3, lr=0.01, log_every=1)
    torch.manual_seed(0)
    trainer = Trainer(built.module, Objective(default_terms("single", taught=True)), config)
    seen: list[dict[str, float]] = []
    trainer.fit(data.batches(0, 3), on_log=lambda step, means, pace: seen.append(means))
    # Two decimals: kernels of other machines differ in the last bits, a change of the method in the first.
    check(DISTILL_NAME, VERSION, [{name: round(value, 2) for name, value in row.items()} for row in seen])
