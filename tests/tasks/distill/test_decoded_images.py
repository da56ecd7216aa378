"""Decoded images that are kept between epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.distill.batches import DecodedImages
from tests.tiny import tiny_corpus

ONE = 40 * 40 * 3


class Counting(LocalStore):
    """A store that counts how often images are read."""

    reads = 0

    def read(self, name: str, offset: int, size: int, *, cached: bool = True) -> bytes:
        self.reads += 1
        return super().read(name, offset, size, cached=cached)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """32 training images."""
    return tiny_corpus(Counting(tmp_path / "store"))


def epoch(images: DecodedImages, corpus: Corpus, order: int) -> int:
    """Reads of an epoch that comes to every training image once."""
    rows = [(shard, row) for shard in corpus.of_split("train") for row in range(len(shard))]
    assert isinstance(corpus.store, Counting)
    before = corpus.store.reads
    for place in np.random.default_rng(order).permutation(len(rows)).tolist():
        assert images.get(corpus, *rows[place]).shape == (40, 40, 3)
    return corpus.store.reads - before


def test_images_that_fit_are_decoded_once(corpus: Corpus) -> None:
    images = DecodedImages(limit=32 * ONE)
    assert [epoch(images, corpus, order) for order in range(3)] == [32, 0, 0]


def test_of_a_corpus_that_does_not_fit_a_share_is_decoded_once(corpus: Corpus) -> None:
    images = DecodedImages(limit=20 * ONE + ONE // 2)
    assert [epoch(images, corpus, order) for order in range(3)] == [32, 12, 12]


def test_nothing_is_kept_without_room(corpus: Corpus) -> None:
    images = DecodedImages(limit=ONE - 1)
    assert [epoch(images, corpus, order) for order in range(2)] == [32, 32]


def test_a_corpus_makes_room_for_the_one_that_is_used(tmp_path: Path, corpus: Corpus) -> None:
    images = DecodedImages(limit=32 * ONE)
    other = tiny_corpus(Counting(tmp_path / "other"), seed=1)
    assert epoch(images, corpus, 0) == 32
    assert [epoch(images, other, order) for order in range(2)] == [32, 0]
    assert epoch(images, corpus, 1) == 32
