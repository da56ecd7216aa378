"""Views of a shard: the same pixels however they are asked for, each image loaded once, threads that end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infra.digest import sha256_bytes
from infra.errors import CorruptError
from infra.storage.manifest import Manifest, manifest_name
from infra.storage.store import LocalStore, open_store
from models.augmentation.draws import NO_PARTNER, ViewRecipe
from models.augmentation.rendering import resize
from tasks.data.corpus import Corpus, Shard, load_image
from tasks.data.views import AHEAD, Images, Load, rendered, stored_partners, view_of
from tests.tiny import tiny_corpus

MIXUP = ViewRecipe(32, mix="mixup", mix_share=0.8)
CUTMIX = ViewRecipe(32, mix="cutmix", mix_share=0.8)
VIEWS = (0, 1, 2, 3, 4)


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    """Its first shard has 200 images."""
    return tiny_corpus(store, train=200, val=1, test=1, unlabelled=0, shard_size=200)


def partners_of(recipe: ViewRecipe, shard: Shard, skip: tuple[int, ...] = ()) -> dict[int, np.ndarray | None]:
    return {view: stored_partners(recipe, view, shard, skip) for view in VIEWS}


def loader(corpus: Corpus, shard: Shard, loaded: Counter[int] | None = None, bad: int = -1) -> Load:
    def load(row: int) -> np.ndarray:
        if loaded is not None:
            loaded[row] += 1
        if row == bad:
            raise CorruptError(f"row {row}")
        return load_image(corpus.store, shard, row)

    return load


def pixels(blocks: list[tuple[np.ndarray, Images]], side: int = 32) -> dict[tuple[int, int], np.ndarray]:
    """By row and view, of blocks from `rendered`."""
    return {
        (int(row), view): picture
        for rows, images in blocks
        for (view, size), pictures in images.items()
        if size == side
        for row, picture in zip(rows, pictures, strict=True)
    }


def digest_of_pixels(store: str, ingest: str, mix: str, threads: int, block: int, backwards: bool) -> str:
    """sha256 of 1,000 views, in order of row and view."""
    opened = open_store(store)
    corpus = Corpus(opened, Manifest.from_bytes(opened.get(manifest_name("ingest", ingest))))
    shard, recipe = corpus.shards[0], {"mixup": MIXUP, "cutmix": CUTMIX}[mix]
    rows = range(len(shard))[:: -1 if backwards else 1]
    sizes, partner = {view: {32} for view in VIEWS}, partners_of(recipe, shard)
    blocks = rendered(loader(corpus, shard), shard, recipe, sizes, partner, rows, threads=threads, block=block)
    found = pixels(list(blocks))
    assert len(found) == 1000
    return sha256_bytes(b"".join(found[name].tobytes() for name in sorted(found)))


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_thousand_views_have_the_same_pixels_on_any_schedule_and_in_a_fresh_process(corpus: Corpus, mix: str) -> None:
    place = (corpus.store.url, corpus.manifest.key, mix)
    here = {digest_of_pixels(*place, *how) for how in ((1, 7, False), (2, 32, True), (4, 1000, False))}
    call = f"from tests.tasks.data.test_views import *; print(digest_of_pixels(*{place!r}, 3, 50, True))"
    root = Path(__file__).parents[3]
    # Dask leaves its workers' environment, with a safe path, in the process that starts them.
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", call]
    there = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert here == {there.stdout.strip()}


def test_the_stream_has_the_pixels_of_single_views(corpus: Corpus) -> None:
    shard, load = corpus.shards[0], loader(corpus, corpus.shards[0])
    partner = partners_of(MIXUP, shard)
    sizes = {view: {32, 48, 20} for view in VIEWS}
    blocks = list(rendered(load, shard, MIXUP, sizes, partner, range(200), threads=2, block=32))
    found = {side: pixels(blocks, side) for side in (32, 48, 20)}
    shares = set()
    for row, view in found[32]:
        other = partner[view]
        picture, share = view_of(load, shard, MIXUP, view, row, NO_PARTNER if other is None else int(other[row]))
        shares.add(share)
        assert all(np.array_equal(found[side][row, view], resize(picture, side)) for side in found)
    assert len(shares) > 100


def test_an_unmixed_view_is_that_of_the_row_alone(corpus: Corpus) -> None:
    shard, load, recipe = corpus.shards[0], loader(corpus, corpus.shards[0]), ViewRecipe(32)
    blocks = list(rendered(load, shard, recipe, {2: {32}}, {2: None}, [5, 3, 9], threads=2, block=2))
    assert [rows.tolist() for rows, _ in blocks] == [[5, 3], [9]]
    found = pixels(blocks)
    assert all(np.array_equal(found[row, 2], view_of(load, shard, recipe, 2, row)[0]) for row in (3, 5, 9))


def test_each_image_is_loaded_once_for_all_views(corpus: Corpus) -> None:
    shard, loaded = corpus.shards[0], Counter[int]()
    sizes, load = {view: {32} for view in VIEWS}, loader(corpus, shard, loaded)
    for _ in rendered(load, shard, CUTMIX, sizes, partners_of(CUTMIX, shard), range(200), threads=2, block=16):
        pass
    assert loaded == Counter(range(200))


def test_blocks_hold_the_same_rows_on_every_run(corpus: Corpus) -> None:
    shard, sizes = corpus.shards[0], {view: {32} for view in VIEWS}
    partner = partners_of(MIXUP, shard)
    runs = [
        [
            rows.tolist()
            for rows, _ in rendered(
                loader(corpus, shard), shard, MIXUP, sizes, partner, range(200), threads=threads, block=32
            )
        ]
        for threads in (1, 4)
    ]
    assert runs[0] == runs[1]
    assert sorted(row for rows in runs[0] for row in rows) == list(range(200))
    assert [len(rows) for rows in runs[0]] == [32] * 6 + [8]


@pytest.mark.parametrize("views", [(1,), (1, 2)])
def test_loading_runs_a_few_blocks_ahead_and_no_further(corpus: Corpus, views: tuple[int, ...]) -> None:
    shard = corpus.shards[0]
    few, far = (AHEAD + 1) * 8 + 2, threading.Event()
    loaded = Counter[int]()
    inner = loader(corpus, shard, loaded)

    def load(row: int) -> np.ndarray:
        image = inner(row)
        if len(loaded) > few:
            far.set()
        return image

    sizes = {view: {32} for view in views}
    stream = rendered(load, shard, MIXUP, sizes, partners_of(MIXUP, shard), range(200), threads=2, block=8)
    next(stream)
    assert not far.wait(0.2)
    next(stream)
    next(stream)
    assert far.wait(5)
    stream.close()


@pytest.mark.parametrize("views", [(1,), (1, 2)])
def test_rendered_views_are_let_go_when_their_rows_are_done(corpus: Corpus, views: tuple[int, ...]) -> None:
    shard, recipe, side = corpus.shards[0], ViewRecipe(96, mix="mixup"), 96
    sizes, partner = {view: {side} for view in views}, partners_of(recipe, shard)
    load = loader(corpus, shard)
    # What is imported at the first mixture is no view.
    list(rendered(load, shard, recipe, sizes, partner, range(8), threads=1, block=8))
    tracemalloc.start()
    try:
        for _ in rendered(load, shard, recipe, sizes, partner, range(200), threads=1, block=8):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    everything = 200 * len(views) * 3 * side**2
    assert peak < everything / 2


def test_an_error_of_a_thread_comes_as_it_is_and_stops_the_rest(corpus: Corpus) -> None:
    shard, loaded = corpus.shards[0], Counter[int]()
    stream = rendered(
        loader(corpus, shard, loaded, bad=20), shard, MIXUP, {1: {32}}, {1: None}, range(200), threads=2, block=8
    )
    with pytest.raises(CorruptError, match="row 20"):
        list(stream)
    assert len(loaded) <= 20 + (AHEAD + 1) * 8
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("views")]


def test_an_image_that_cannot_be_loaded_fails_the_stream_from_within_a_pair(corpus: Corpus) -> None:
    shard = corpus.shards[0]
    load = loader(corpus, shard, bad=20)
    with pytest.raises(CorruptError, match="row 20"):
        list(rendered(load, shard, MIXUP, {1: {32}}, partners_of(MIXUP, shard), range(200), threads=1, block=8))


def test_an_early_close_leaves_no_thread(corpus: Corpus) -> None:
    shard, load = corpus.shards[0], loader(corpus, corpus.shards[0])
    stream = rendered(load, shard, MIXUP, {1: {32}}, partners_of(MIXUP, shard), range(200), threads=3, block=8)
    next(stream)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("views")]
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("views")]


def test_a_skipped_row_is_never_loaded_and_leaves_its_partner_alone(corpus: Corpus) -> None:
    shard, loaded = corpus.shards[0], Counter[int]()
    whole, less = partners_of(MIXUP, shard), partners_of(MIXUP, shard, skip=(7, 50))
    for view in VIEWS[1:]:
        before, after = whole[view], less[view]
        assert before is not None
        assert after is not None
        lost = {7, 50, *before[[7, 50]].tolist()} - {NO_PARTNER}
        assert (after[list(lost)] == NO_PARTNER).all()
        kept = [row for row in range(200) if row not in lost]
        assert np.array_equal(after[kept], before[kept])
    rows, sizes = [row for row in range(200) if row not in (7, 50)], {view: {32} for view in VIEWS}
    blocks = list(rendered(loader(corpus, shard, loaded), shard, MIXUP, sizes, less, rows, threads=2, block=32))
    assert set(loaded) == set(rows)
    assert len(pixels(blocks)) == 198 * 5


def test_a_partner_outside_the_rows_is_loaded_and_not_yielded(corpus: Corpus) -> None:
    shard, loaded = corpus.shards[0], Counter[int]()
    partner = stored_partners(MIXUP, 1, shard)
    assert partner is not None
    row = int(np.flatnonzero(partner != NO_PARTNER)[0])
    blocks = list(
        rendered(loader(corpus, shard, loaded), shard, MIXUP, {1: {32}}, {1: partner}, [row], threads=1, block=8)
    )
    assert list(pixels(blocks)) == [(row, 1)]
    assert loaded == Counter([row, int(partner[row])])


def test_what_no_view_wants_is_not_loaded(corpus: Corpus) -> None:
    shard, loaded = corpus.shards[0], Counter[int]()
    blocks = rendered(
        loader(corpus, shard, loaded), shard, MIXUP, {0: set(), 1: set()}, {}, range(20), threads=1, block=8
    )
    assert [(rows.tolist(), images) for rows, images in blocks][-1] == ([16, 17, 18, 19], {})
    assert not loaded


def test_another_shard_changes_no_view_of_the_others(store: LocalStore) -> None:
    def views(corpus: Corpus) -> dict[tuple[int, int], np.ndarray]:
        shard = corpus.shards[0]
        sizes, partner = {view: {32} for view in VIEWS}, partners_of(MIXUP, shard)
        load = partial(load_image, corpus.store, shard)
        return pixels(list(rendered(load, shard, MIXUP, sizes, partner, range(16), threads=1, block=8)))

    small, grown = (views(tiny_corpus(store, train=train, unlabelled=0)) for train in (16, 48))
    assert small.keys() == grown.keys()
    assert all(np.array_equal(small[name], grown[name]) for name in small)
