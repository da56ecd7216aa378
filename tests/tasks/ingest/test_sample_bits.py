"""Bits in use of 16-bit samples: one number for all images of a corpus, whatever each of them needs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorpusError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, load_image
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import run, spec


def deep(path: Path, highest: int, seed: int = 0) -> None:
    """A 16-bit PNG whose values go from 0 to `highest`."""
    noise = np.random.default_rng(seed).random((20, 24, 3))
    noise[0, 0], noise[-1, -1] = 0, 1
    assert cv2.imwrite(str(path), (noise * highest).astype(np.uint16))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Images of 8 bits; two of 12 in files of 16."""
    root = eyepacs(tmp_path / "corpus", many_patients(20))
    for name, highest in (("1_left", 4095), ("2_left", 1000)):
        (root / "train" / f"{name}.jpeg").unlink()
        deep(root / "train" / f"{name}.png", highest, seed=len(name))
    return root


def brightest(store: LocalStore, manifest: Manifest, key: str) -> int:
    """Largest value of a stored image."""
    corpus = Corpus(store, manifest)
    ((shard, row),) = ((s, list(s.keys).index(key)) for s in corpus.shards if key in s.keys)
    return int(load_image(store, shard, row).max())


PNG = {"encode": "png", "size": 20}


def test_all_images_are_scaled_by_the_most_bits_that_one_needs(
    corpus: Path, store: LocalStore, cluster: Cluster
) -> None:
    manifest = run(spec(corpus, store, ingest=PNG), cluster).manifest
    assert brightest(store, manifest, "1_left") == 255
    assert brightest(store, manifest, "2_left") == 1000 >> 4
    assert manifest.facts["bits"] == 12
    assert (
        "samples of 16 bits have 12 in use; the highest 8 of these are stored (ingest.bits)" in manifest.facts["notes"]
    )


def test_shards_without_deep_samples_are_made_once(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    whole = run(spec(corpus, store, ingest=PNG), cluster).manifest
    for name in ("1_left", "2_left"):
        (corpus / "train" / f"{name}.png").unlink()
    plain = run(spec(corpus, LocalStore(store.root / "plain"), ingest=PNG), cluster).manifest
    assert "bits" not in plain.facts
    deep_shards = {shard.id for shard in Corpus(store, whole).shards if {"1_left", "2_left"} & set(shard.keys)}
    assert len(store.sizes("units/ingest/")) == len(whole.outputs_where(kind="shard")) + len(deep_shards)


def test_later_images_are_stored_as_the_first_were(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    run(spec(corpus, store, ingest=PNG), cluster)
    deep(corpus / "train" / "41_left.png", 500, seed=7)
    manifest = run(spec(corpus, store, ingest=PNG), cluster).manifest
    assert brightest(store, manifest, "41_left") == 500 >> 4
    assert manifest.facts["bits"] == 12


def test_a_later_image_with_more_bits_is_refused_by_name(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    run(spec(corpus, store, ingest=PNG), cluster)
    deep(corpus / "train" / "41_left.png", 16000, seed=7)
    with pytest.raises(CorpusError, match=r"41_left: its samples need 14 bits, .* as if 12 were .* ingest.bits: 14"):
        run(spec(corpus, store, ingest=PNG), cluster)
    manifest = run(spec(corpus, store, ingest={**PNG, "bits": 14}), cluster).manifest
    assert [brightest(store, manifest, key) for key in ("41_left", "1_left")] == [16000 >> 6, 4095 >> 6]


def test_the_spec_may_say_the_bits(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, ingest={**PNG, "bits": 16}), cluster).manifest
    assert brightest(store, manifest, "1_left") == 4095 >> 8


def test_a_lost_shard_is_made_again_with_the_same_bits(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, ingest=PNG), cluster).manifest
    whole = {name: store.get(name) for name in store.sizes("shards/") if name.endswith(".tar")}
    named = {output.name for output in manifest.outputs_where(kind="shard")}
    for name in named:
        store.delete(name)
    run(spec(corpus, store, ingest=PNG), cluster)
    assert {name: store.get(name) for name in named} == {name: whole[name] for name in named}
