"""A corpus whose training images show no label: teachers alone teach, and no label enters the training's key."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from tasks.data.corpus import Corpus, Shard


class WithoutLabels(Corpus):
    """A corpus as a phase without labels is trained on it; those of validation and test stay.

    Args:
        corpus: the whole of it.
    """

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus.store, corpus.manifest)
        self.whole = corpus

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards; the labels of training images are unknown."""
        return [_hidden(shard) if shard.split == "train" else shard for shard in self.whole.shards]


def _hidden(shard: Shard) -> Shard:
    labels = None if shard.labels is None else np.full_like(shard.labels, -1)
    return replace(shard, label=np.full_like(shard.label, -1), labels=labels)
