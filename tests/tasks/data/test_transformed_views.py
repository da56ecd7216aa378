"""A thousand views with ten listed transforms: teachers and students see the same pixels, wherever and whenever."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from infra.digest import sha256_bytes
from infra.storage.manifest import Manifest, manifest_name
from infra.storage.store import LocalStore, open_store
from models.augmentation.draws import NO_PARTNER, ViewRecipe
from tasks.data.corpus import Corpus, load_image
from tasks.data.views import rendered, stored_partners, view_of
from tasks.spec import parse_spec
from tests.tiny import tiny_corpus

SPEC = """
name: ten
store: store
corpus: {adapter: eyepacs, root: images}
teachers: [{name: big, model: resnet18}]
student: {model: micro}
views:
  size: 32
  mix: MIX
  mix_share: 0.5
  transforms:
    - HorizontalFlip
    - ShiftScaleRotate: {shift_limit: 0.05, scale_limit: 0.1, rotate_limit: 10}
    - CLAHE: {clip_limit: [1, 3], p: 0.3}
    - RandomGamma
    - OneOf: [MotionBlur, {GaussianBlur: {blur_limit: [3, 5]}}]
    - GaussNoise: {std_range: [0.01, 0.05]}
    - SomeOf: {n: 1, transforms: [GridDistortion, ElasticTransform], p: 0.3}
    - CoarseDropout: {num_holes_range: [1, 3], hole_height_range: [0.1, 0.2], hole_width_range: [0.1, 0.2]}
    - Sharpen: {p: 0.2}
    - ImageCompression: {quality_range: [60, 95]}
"""
VIEWS = (0, 1, 2, 3, 4)


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    return tiny_corpus(store, train=200, val=1, test=1, unlabelled=0, shard_size=200)


def recipe_of(mix: str) -> ViewRecipe:
    section = parse_spec(SPEC.replace("MIX", mix)).views.resolved("endoscopy")
    return ViewRecipe.from_values(section.identity())


def as_labelled(store: str, ingest: str, mix: str, threads: int, block: int, backwards: bool) -> str:
    """sha256 of 1,000 views from the stream that teachers label, in order of row and view."""
    opened = open_store(store)
    corpus = Corpus(opened, Manifest.from_bytes(opened.get(manifest_name("ingest", ingest))))
    shard, recipe = corpus.shards[0], recipe_of(mix)
    partner = {view: stored_partners(recipe, view, shard) for view in VIEWS}
    rows = range(len(shard))[:: -1 if backwards else 1]
    load = partial(load_image, corpus.store, shard)
    sizes = {view: {32} for view in VIEWS}
    found = {}
    for block_rows, images in rendered(load, shard, recipe, sizes, partner, rows, threads=threads, block=block):
        for (view, _), pictures in images.items():
            found.update({(int(row), view): p for row, p in zip(block_rows, pictures, strict=True)})
    assert len(found) == 1000
    return sha256_bytes(b"".join(found[name].tobytes() for name in sorted(found)))


def as_trained(corpus: Corpus, mix: str) -> str:
    """The same of the single views that students ask for, by threads and in another order."""
    shard, recipe = corpus.shards[0], recipe_of(mix)
    partner = {view: stored_partners(recipe, view, shard) for view in VIEWS}
    load = partial(load_image, corpus.store, shard)
    names = [(row, view) for view in reversed(VIEWS) for row in range(200)]

    def one(name: tuple[int, int]) -> bytes:
        row, view = name
        other = partner[view]
        picture, _ = view_of(load, shard, recipe, view, row, NO_PARTNER if other is None else int(other[row]))
        return picture.tobytes()

    with ThreadPoolExecutor(3) as pool:
        found = dict(zip(names, pool.map(one, names), strict=True))
    return sha256_bytes(b"".join(found[name] for name in sorted(found)))


@pytest.mark.parametrize("mix", ["none", "mixup"])
def test_a_thousand_views_are_equal_for_teachers_and_students_and_after_a_restart(corpus: Corpus, mix: str) -> None:
    place = (corpus.store.url, corpus.manifest.key, mix)
    here = {as_labelled(*place, *how) for how in ((1, 7, False), (4, 32, True))} | {as_trained(corpus, mix)}
    call = f"from tests.tasks.data.test_transformed_views import *; print(as_labelled(*{place!r}, 3, 50, True))"
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", call]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    there = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert here == {there.stdout.strip()}
