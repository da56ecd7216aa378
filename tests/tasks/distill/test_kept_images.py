"""Decoded images and rendered views that are kept between epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Corpus, Shard, load_image
from tasks.data.views import view_of
from tasks.distill import kept_images
from tasks.distill.kept_images import KeptImages, stored_view
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


def read(images: KeptImages, corpus: Corpus, shard: Shard, row: int) -> np.ndarray:
    return images.get(corpus.manifest.key, (shard.id, row), lambda: load_image(corpus.store, shard, row))


def epoch(images: KeptImages, corpus: Corpus, order: int) -> int:
    """Reads of an epoch that comes to every training image once."""
    rows = [(shard, row) for shard in corpus.of_split("train") for row in range(len(shard))]
    assert isinstance(corpus.store, Counting)
    before = corpus.store.reads
    for place in np.random.default_rng(order).permutation(len(rows)).tolist():
        assert read(images, corpus, *rows[place]).shape == (40, 40, 3)
    return corpus.store.reads - before


def test_images_that_fit_are_decoded_once(corpus: Corpus) -> None:
    images = KeptImages(limit=32 * ONE)
    assert [epoch(images, corpus, order) for order in range(3)] == [32, 0, 0]


def test_of_a_corpus_that_does_not_fit_a_share_is_decoded_once(corpus: Corpus) -> None:
    images = KeptImages(limit=20 * ONE + ONE // 2)
    assert [epoch(images, corpus, order) for order in range(3)] == [32, 12, 12]


def test_nothing_is_kept_without_room(corpus: Corpus) -> None:
    images = KeptImages(limit=ONE - 1)
    assert [epoch(images, corpus, order) for order in range(2)] == [32, 32]


def test_a_corpus_makes_room_for_the_one_that_is_used(tmp_path: Path, corpus: Corpus) -> None:
    images = KeptImages(limit=32 * ONE)
    other = tiny_corpus(Counting(tmp_path / "other"), seed=1)
    assert epoch(images, corpus, 0) == 32
    assert [epoch(images, other, order) for order in range(2)] == [32, 0]
    assert epoch(images, corpus, 1) == 32


def test_a_stored_view_is_rendered_once(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_images, "IMAGES", KeptImages(limit=0))
    monkeypatch.setattr(kept_images, "VIEWS", KeptImages(limit=1 << 20))
    shard, recipe = corpus.of_split("train")[0], ViewRecipe(32)
    first = stored_view(corpus, shard, recipe, 1, 2)
    assert isinstance(corpus.store, Counting)
    before = corpus.store.reads
    again = stored_view(corpus, shard, recipe, 1, 2)
    assert corpus.store.reads == before
    alone, share = view_of(lambda row: load_image(corpus.store, shard, row), shard, recipe, 1, 2)
    assert share == 1.0
    assert np.array_equal(again, alone)
    assert np.array_equal(first, alone)


def test_views_of_another_recipe_are_others(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_images, "VIEWS", KeptImages(limit=1 << 20))
    shard = corpus.of_split("train")[0]
    plain, turned = (stored_view(corpus, shard, ViewRecipe(32, rotate=turn), 1, 2) for turn in (0.0, 90.0))
    assert not np.array_equal(plain, turned)
