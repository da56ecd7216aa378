"""Shards as others read them, and a reader of ours that loses nothing."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds

from infra.compute.cluster import Cluster
from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tasks.ingest.reader import as_webdataset
from tests.tasks.corpora.layouts import csv, eyepacs, image, many_patients
from tests.tasks.ingest.specs import run, spec


@pytest.fixture
def manifest(tmp_path: Path, store: LocalStore, cluster: Cluster) -> Manifest:
    corpus = eyepacs(tmp_path / "corpus", many_patients(20), pool=["99_left"])
    return run(spec(corpus, store), cluster).manifest


def first_shard(manifest: Manifest) -> Output:
    return manifest.outputs_where(kind="shard", split="train")[0]


def keys(store: LocalStore, manifest: Manifest, split: str) -> list[str]:
    shards = manifest.outputs_where(kind="shard")
    index = from_parquet(store.get(manifest.output(kind="index").name)).to_pylist()
    return [row["key"] for row in index if shards[row["shard"]].meta["split"] == split]


def test_every_sample_of_a_split_is_read(store: LocalStore, manifest: Manifest) -> None:
    samples = list(as_webdataset(store, manifest, "train"))
    assert [s["__key__"] for s in samples] == keys(store, manifest, "train")
    assert all(s["jpg"][:2] == b"\xff\xd8" and "label" in json.loads(s["json"]) for s in samples)


def test_webdataset_methods_work_on_it(store: LocalStore, manifest: Manifest) -> None:
    pixels, note = next(iter(as_webdataset(store, manifest, "val").decode("rgb8").to_tuple("jpg;png", "json")))
    assert (pixels.shape, pixels.dtype, sorted(note)) == ((16, 19, 3), np.uint8, ["label"])


def test_plain_webdataset_reads_the_shards(store: LocalStore, manifest: Manifest) -> None:
    paths = [str(store.local_path(o.name)) for o in manifest.outputs_where(kind="shard", split="test")]
    found = by_others(lambda: [s["__key__"] for s in wds.WebDataset(paths, shardshuffle=False)])
    assert found == keys(store, manifest, "test")


def cut_at_a_member(data: bytes, members: int) -> bytes:
    """The first members of a tar and nothing after: WebDataset reads this without a word."""
    at = 0
    for _ in range(members):
        size = int(data[at + 124 : at + 135], 8)
        at += 512 + -(-size // 512) * 512
    return data[:at]


@pytest.mark.parametrize("members", [0, 2, 3, 6])
def test_a_shard_cut_between_members_is_reported(store: LocalStore, manifest: Manifest, members: int) -> None:
    shard = first_shard(manifest)
    store.put(shard.name, cut_at_a_member(store.get(shard.name), members))
    with pytest.raises(CorruptError, match=shard.name):
        list(as_webdataset(store, manifest, "train"))


def test_a_flipped_byte_in_a_header_changes_no_sample(store: LocalStore, manifest: Manifest) -> None:
    shard = first_shard(manifest)
    right = list(as_webdataset(store, manifest, "train"))
    data = bytearray(store.get(shard.name))
    at = len(cut_at_a_member(bytes(data), 4))
    data[at + 150] ^= 1
    store.put(shard.name, bytes(data))
    assert list(as_webdataset(store, manifest, "train")) == right


def test_the_json_of_a_sample_is_the_one_in_the_shard(store: LocalStore, manifest: Manifest) -> None:
    paths = [str(store.local_path(o.name)) for o in manifest.outputs_where(kind="shard", split="train")]
    theirs = by_others(lambda: [(s["__key__"], s["json"]) for s in wds.WebDataset(paths, shardshuffle=False)])
    assert [(s["__key__"], s["json"]) for s in as_webdataset(store, manifest, "train")] == theirs


def test_a_damaged_index_is_reported(store: LocalStore, manifest: Manifest) -> None:
    name = manifest.output(kind="index").name
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.put(name, bytes(data))
    with pytest.raises(CorruptError, match=r"index-.* is not the object that its manifest names"):
        as_webdataset(store, manifest, "train")


def test_a_flipped_byte_in_an_image_is_reported(store: LocalStore, manifest: Manifest) -> None:
    shard = first_shard(manifest)
    data = bytearray(store.get(shard.name))
    data[512 + 300] ^= 1
    store.put(shard.name, bytes(data))
    with pytest.raises(CorruptError, match="are not those ingested"):
        list(as_webdataset(store, manifest, "train"))


def test_a_split_that_is_not_there_is_reported(store: LocalStore, manifest: Manifest) -> None:
    with pytest.raises(KeyError, match="no shard of split 'extra'"):
        as_webdataset(store, manifest, "extra")


def by_others(read: Callable[[], list[Any]]) -> list[Any]:
    """WebDataset's own opener leaves closing its files to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        found = read()
        gc.collect()
    return found


def timm_targets(folder: Path, split: str) -> list[Any]:
    import models.networks.torchvision_guard  # noqa: F401, I001  (before timm)
    from timm.data import create_dataset

    def read() -> list[Any]:
        return [target for _, target in create_dataset("wds/x", str(folder), split, batch_size=1, transform=np.asarray)]

    return by_others(read)


def test_timm_reads_the_labelled_images(store: LocalStore, manifest: Manifest) -> None:
    folder = store.local_path(first_shard(manifest).name).parent
    counts = manifest.facts["counts"]["train"]
    targets = timm_targets(folder, "train")
    assert {str(t): targets.count(t) for t in set(targets)} == counts


def test_timm_reads_several_labels_an_image(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    rows = []
    for i in range(12):
        image(tmp_path / f"c/{i}.png", i)
        rows.append(f"{i},{('A', 'A|B', 'None')[i % 3]},{('train', 'val', 'test')[i // 3 % 3]}")
    csv(tmp_path / "c/labels.csv", "name,label,split", rows)
    table = {"csv": "labels.csv", "image": "name", "label": "label", "split": "split", "negative": "None"}
    corpus = {"adapter": "table", "task": "multilabel", "table": table}
    manifest = run(spec(tmp_path / "c", store, corpus), cluster).manifest
    folder = store.local_path(first_shard(manifest).name).parent
    assert timm_targets(folder, "val") == [[1, 0], [1, 1], [0, 0]]
