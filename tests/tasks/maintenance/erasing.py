"""A labelled store to erase from, and a search of all its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import load

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.catalog import from_parquet, table_of
from tasks.data.corpus import Corpus, read_image
from tasks.data.soft_labels import SoftLabelReader
from tasks.ingest.parent import read_head
from tests.tasks.label.teachers import label_one, spec_of

MIXED = {"size": 32, "count": 2, "mix": "mixup"}


def corpus_of(store: Store, title: str = "eyepacs") -> Corpus:
    """The corpus as its head has it now."""
    manifest = read_head(store, title)
    assert manifest is not None
    return Corpus(store, manifest)


def label_store(store: Store, weights: Path, cluster: Cluster) -> Manifest:
    """Soft labels of the head's corpus: the plain view and two mixed ones."""
    spec = spec_of(store, weights, views=MIXED)
    return label_one(corpus_of(store), spec, cluster).manifest


def rows_of(corpus: Corpus, patient: str) -> list[tuple[int, int]]:
    """Shard number and row of each stored image of a patient."""
    return [
        (number, int(row))
        for number, shard in enumerate(corpus.shards)
        for row in np.flatnonzero(shard.patient == patient)
    ]


def traces(store: Store, patient: str, labels: Manifest | None = None, title: str = "eyepacs") -> dict[str, bytes]:
    """What a search must not find once a patient is gone, by what it is."""
    corpus = corpus_of(store, title)
    found: dict[str, bytes] = {}
    catalog = corpus.catalog.filter(pa.compute.equal(corpus.catalog["patient"], patient))
    for row in catalog.to_pylist():
        found |= {f"key {row['key']}": row["key"].encode(), f"digest of {row['key']}": row["source_sha256"].encode()}
        found |= {f"path of {row['key']}": row["source"].encode()} if row["source"] else {}
    index = table_of(store, corpus.manifest, "index")
    hashes = dict(zip(index["key"].to_pylist(), index["phash"].to_pylist(), strict=True))
    for number, place in rows_of(corpus, patient):
        shard = corpus.shards[number]
        key = str(shard.keys[place])
        image = read_image(store, shard, place)
        # The end of a JPEG: what is before it are tables that all small ones share.
        found |= {f"image {key}": image[-48:], f"hash of {key}": hashes[key]}
        reader = SoftLabelReader(corpus, [labels]) if labels is not None else None
        for view in range(3 if reader is not None and shard.split == "train" else 1 if reader is not None else 0):
            assert reader is not None
            logits = reader.rows(number, view).logits[0, place].astype(np.float16)
            found[f"logits of {key}, view {view}"] = logits.tobytes()
    return {what: data for what, data in found.items() if data.strip(b"\0")}


def contents_of(store: Store) -> Iterator[tuple[str, bytes]]:
    """Every object with its bytes, tables as text and numbers as they are in memory."""
    for name in sorted(store.sizes("")):
        data = store.get(name)
        if name.endswith(".parquet"):
            rows = from_parquet(data).to_pylist()
            binary = [value for row in rows for value in row.values() if isinstance(value, bytes)]
            data += str(rows).encode() + b"".join(binary)
        elif name.endswith(".safetensors"):
            data += b"".join(tensor.tobytes() for tensor in load(data).values())
        yield name, name.encode() + data


def search(store: Store, wanted: dict[str, bytes]) -> list[str]:
    """What is found, and in which object."""
    return [f"{what} in {name}" for name, data in contents_of(store) for what, text in wanted.items() if text in data]


def labels_of(store: Store) -> Manifest:
    """The manifest of the store's one labelling."""
    (name,) = store.sizes("manifests/label/")
    return Manifest.from_bytes(store.get(name), name)
