"""An ingested corpus as the later stages read it: shards, labels, and checked reads of single images."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.catalog import LEFT_OUT, OK, from_parquet, table_of

FOLD = "fold"
"""Fact of a training set whose rows have other splits than their shards: [number of the fold, of how many]."""


@dataclass(frozen=True)
class Shard:
    """One shard: a run of images of one split; of a fold, a shard's images as one split sees them.

    `label` holds the current labels of the catalog, not those that were written into the tar.
    """

    output: Output
    split: str
    keys: np.ndarray  # [N] str, in shard order
    offsets: np.ndarray  # [N] int64
    lengths: np.ndarray  # [N] int64
    crcs: np.ndarray  # [N] uint32
    used: np.ndarray  # [N] bool: the spec uses it; others have no label here
    label: np.ndarray  # [N] int32, -1 unlabelled (single, ordinal)
    labels: np.ndarray | None  # [N, C] int8, -1 unknown (multilabel)
    patient: np.ndarray  # [N] str; the key where no patient is known
    leak: np.ndarray  # [N] bool

    @property
    def id(self) -> str:
        """sha256 of the tar."""
        return self.output.id

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labelled(self) -> np.ndarray:
        """[N] bool: rows with at least one known label."""
        return np.asarray(self.label >= 0 if self.labels is None else (self.labels >= 0).any(axis=1))


class Corpus:
    """Read side of an ingest manifest."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store = store
        self.manifest = manifest

    @property
    def title(self) -> str:
        """Name of the corpus in the store."""
        return str(self.manifest.facts["corpus"])

    @property
    def task(self) -> str:
        """single, ordinal or multilabel."""
        return str(self.manifest.facts["task"])

    @property
    def classes(self) -> list[str]:
        """Class names; class number = position."""
        return list(self.manifest.facts["classes"])

    @property
    def modality(self) -> str:
        """fundus, endoscopy, xray or other: which augmentations make sense."""
        return str(self.manifest.facts["modality"])

    @cached_property
    def catalog(self) -> pa.Table:
        """The catalog, schema `tasks.data.catalog.CATALOG`."""
        return table_of(self.store, self.manifest, "catalog")

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards in manifest order."""
        index = from_parquet(read_output(self.store, self.manifest.output(kind="index")))
        outputs = self.manifest.outputs_where(kind="shard")
        catalog = self.catalog.filter(pc.is_in(self.catalog["status"], value_set=pa.array([OK, LEFT_OUT])))
        used = pc.equal(catalog["status"], OK).to_numpy(zero_copy_only=False)
        rows = pc.fill_null(pc.index_in(index["key"], value_set=catalog["key"]), -1).to_numpy()
        label = np.where(used, catalog["label"].to_numpy(), -1)
        # Without a patient the image stands for itself.
        patient = pc.if_else(pc.equal(catalog["patient"], ""), catalog["key"], catalog["patient"])
        leak = catalog["leak"].to_numpy(zero_copy_only=False)
        labels = None
        if self.task == "multilabel" and len(catalog):
            labels = pc.list_flatten(catalog["labels"]).to_numpy().reshape(len(catalog), -1)
            labels = np.where(used[:, None], labels, -1)
        starts = np.searchsorted(index["shard"].to_numpy(), np.arange(len(outputs) + 1))
        shards = []
        for i, output in enumerate(outputs):
            span = slice(int(starts[i]), int(starts[i + 1]))
            part = index.slice(span.start, span.stop - span.start)
            column = {n: part[n].to_numpy(zero_copy_only=False) for n in ("key", "offset", "size", "crc32")}
            own = rows[span]
            if (own < 0).any():
                raise CorruptError(f"{output.name}: key {column['key'][own < 0][0]} is not in the catalog")
            shards.append(
                Shard(
                    output=output,
                    split=str(output.meta["split"]),
                    keys=column["key"],
                    offsets=column["offset"],
                    lengths=column["size"],
                    crcs=column["crc32"],
                    used=used[own].astype(bool),
                    label=label[own].astype(np.int32),
                    labels=labels[own].astype(np.int8) if labels is not None else None,
                    patient=patient.take(pa.array(own)).to_numpy(zero_copy_only=False),
                    leak=leak[own].astype(bool),
                )
            )
        if FOLD in self.manifest.facts:
            split = catalog["split"].to_numpy(zero_copy_only=False)
            spans = zip(starts[:-1].tolist(), starts[1:].tolist(), shards, strict=True)
            return [part for low, high, shard in spans for part in _by_split(shard, split[rows[low:high]])]
        return shards

    def of_split(self, split: str) -> list[Shard]:
        """Shards of one split."""
        return [shard for shard in self.shards if shard.split == split]


def _by_split(shard: Shard, split: np.ndarray) -> list[Shard]:
    """A shard once for each split of its used rows; rows of others are not used there and have no label.

    Args:
        split: [N] of each row.
    """
    found = []
    for name in dict.fromkeys(split[shard.used].tolist()):
        own = shard.used & (split == name)
        label = np.where(own, shard.label, -1).astype(shard.label.dtype)
        labels = None if shard.labels is None else np.where(own[:, None], shard.labels, -1).astype(shard.labels.dtype)
        found.append(replace(shard, split=name, used=own, label=label, labels=labels))
    return found


def read_image(store: Store, shard: Shard, row: int, *, cached: bool = True) -> bytes:
    """The encoded bytes of one image, crc checked; CorruptError names shard and key.

    Args:
        cached: fetch the whole shard of a remote store, because others of its images will be read too.
    """
    data = store.read(shard.output.name, int(shard.offsets[row]), int(shard.lengths[row]), cached=cached)
    if zlib.crc32(data) != int(shard.crcs[row]):
        raise CorruptError(f"{shard.output.name}: bytes of {shard.keys[row]} are not those ingested; run repair")
    return data


def load_image(store: Store, shard: Shard, row: int, *, cached: bool = True) -> np.ndarray:
    """One stored image, RGB uint8 [H, W, 3]; CorruptError names shard and key. `cached` as `read_image`."""
    # OpenCV takes a fifth of a second to import, which a driver that reads no image need not pay.
    from models.augmentation.rendering import decode

    data = read_image(store, shard, row, cached=cached)
    try:
        return decode(data)
    except ValueError as error:
        raise CorruptError(f"{shard.output.name}: {shard.keys[row]}: {error}; run repair") from error
