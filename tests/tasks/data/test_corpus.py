"""An ingested corpus as the later stages see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorruptError
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, read_image
from tests.tasks.corpora.layouts import csv, eyepacs, many_patients
from tests.tasks.ingest.specs import run, spec

GRADES = many_patients(20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return eyepacs(tmp_path / "corpus", GRADES, pool=["99_left"])


def load(root: Path, store: LocalStore, cluster: Cluster) -> Corpus:
    return Corpus(store, run(spec(root, store), cluster).manifest)


def test_shards_hold_every_image_with_its_label_and_patient(root: Path, store: LocalStore, cluster: Cluster) -> None:
    corpus = load(root, store, cluster)
    found = {k: (int(n), p) for s in corpus.shards for k, n, p in zip(s.keys, s.label, s.patient, strict=True)}
    assert found == {**{k: (g, k.split("_")[0]) for k, g in GRADES.items()}, "99_left": (-1, "99")}
    assert (corpus.title, corpus.task, corpus.modality) == ("eyepacs", "ordinal", "fundus")
    assert sum(int(s.labelled.sum()) for s in corpus.shards) == 40


def test_the_catalog_s_label_counts_not_the_shard_s(root: Path, store: LocalStore, cluster: Cluster) -> None:
    load(root, store, cluster)
    csv(root / "trainLabels.csv", "image,level", [f"{k},{g if k != '3_left' else 1}" for k, g in GRADES.items()])
    shards = load(root, store, cluster).shards
    assert [int(s.label[i]) for s in shards for i, k in enumerate(s.keys) if k == "3_left"] == [1]


def test_an_image_is_read_alone_and_checked(root: Path, store: LocalStore, cluster: Cluster) -> None:
    shard = load(root, store, cluster).of_split("train")[0]
    assert read_image(store, shard, 2)[:2] == b"\xff\xd8"
    data = bytearray(store.get(shard.output.name))
    data[int(shard.offsets[2]) + 20] ^= 1
    store.put(shard.output.name, bytes(data))
    with pytest.raises(CorruptError, match=f"bytes of {shard.keys[2]} are not those ingested"):
        read_image(store, shard, 2)
    assert read_image(store, shard, 1)[:2] == b"\xff\xd8"


def test_a_shard_key_that_the_catalog_lacks_is_told(root: Path, store: LocalStore, cluster: Cluster) -> None:
    corpus = load(root, store, cluster)
    smaller = corpus.catalog.slice(1)
    broken = Corpus(store, corpus.manifest)
    broken.__dict__["catalog"] = smaller
    with pytest.raises(CorruptError, match="is not in the catalog"):
        _ = broken.shards
