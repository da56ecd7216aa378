"""The page of a selection: figures for people, nothing that shows a patient."""

from __future__ import annotations

import numpy as np

from infra.storage.store import LocalStore
from tasks.data.corpus import Shard
from tasks.select import select
from tasks.select.page import page
from tests.tasks.select.pools import section
from tests.tiny import tiny_corpus, tiny_labels


def unsure(shard: Shard, view: int) -> np.ndarray:
    rows = np.arange(len(shard))
    return (np.eye(3)[rows % 3] * rows[:, None] * 0.2).astype(np.float32)


def test_a_page_says_what_was_dropped_and_where_the_lists_are(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    manifest = select(corpus, [tiny_labels(corpus, "a", unsure)], section(min_confidence=0.8), store).manifest
    text = page(manifest)
    assert f"{manifest.facts['kept']} training images kept, {manifest.facts['dropped']} dropped" in text
    assert f"| min_confidence | {manifest.facts['dropped']} |" in text
    assert f"`{manifest.output(kind='hardest').name}`" in text
    assert "no list of label errors: " in text
    assert f"| a | {manifest.facts['temperatures']['a']:.3f} |" in text


def test_a_page_names_no_image(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    text = page(select(corpus, [tiny_labels(corpus, "a", unsure)], section(), store).manifest)
    assert not [key for shard in corpus.shards for key in shard.keys if key in text]
    assert "![" not in text
