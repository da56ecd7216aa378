"""A corpus with two teachers that the tests of the stage share; selecting writes beside it and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from infra.digest import sha256_bytes
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, Shard
from tests.tiny import tiny_corpus, tiny_labels


@dataclass(frozen=True)
class Taught:
    """A corpus and what its teachers said."""

    corpus: Corpus
    labels: list[Manifest]

    @property
    def store(self) -> LocalStore:
        assert isinstance(self.corpus.store, LocalStore)
        return self.corpus.store


def by_key(seed: int, view_noise: float = 1.0, classes: int = 3):  # type: ignore[no-untyped-def]
    """Logits that follow from the key alone, whatever the shard."""

    def logits(shard: Shard, view: int) -> np.ndarray:
        rows = []
        for key in shard.keys:
            lot = int(sha256_bytes(f"{seed} {key}".encode())[:12], 16)
            own = np.random.default_rng(lot).normal(0, 2, classes)
            rows.append(own + view_noise * np.random.default_rng([lot, view]).normal(0, 1, classes) * (view > 0))
        return np.array(rows, np.float32)

    return logits


def taught(store: LocalStore, **values: object) -> Taught:
    """tiny_corpus of these values with teachers `a` (trained in folds) and `b`, one random view each."""
    corpus = tiny_corpus(store, **{"train": 24, "unlabelled": 40, "val": 16, **values})  # type: ignore[arg-type]
    a, b = (tiny_labels(corpus, name, by_key(seed), views=1, val_views=1) for seed, name in enumerate("ab"))
    return Taught(corpus, [a.model_copy(update={"facts": {"folds": 5}}), b])


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return taught(LocalStore(tmp_path_factory.mktemp("select") / "store"))
