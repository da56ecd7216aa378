"""An ingested corpus as the later stages see it: shards, labels, and checked reads of single images."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from infra.errors import CorruptError
from infra.manifest import Manifest, Output
from infra.store import Store
from tasks.catalog import OK, from_parquet


@dataclass(frozen=True)
class Shard:
    """One shard: a run of images of one split.

    `label` holds the catalog's labels of today, not those written into the tar.
    """

    output: Output
    split: str
    keys: np.ndarray  # [N] str, in shard order
    offsets: np.ndarray  # [N] int64
    lengths: np.ndarray  # [N] int64
    crcs: np.ndarray  # [N] uint32
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
        """The catalog, schema `tasks.catalog.CATALOG`."""
        return from_parquet(self.store.get(self.manifest.output(kind="catalog").name))

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards in manifest order."""
        index = from_parquet(self.store.get(self.manifest.output(kind="index").name))
        outputs = self.manifest.outputs_where(kind="shard")
        catalog = self.catalog
        keys = catalog["key"].to_numpy(zero_copy_only=False)
        known = catalog["status"].to_numpy(zero_copy_only=False) == OK
        row_of = {key: row for row, key in enumerate(keys) if known[row]}
        label = catalog["label"].to_numpy()
        patient = catalog["patient"].to_numpy(zero_copy_only=False)
        leak = catalog["leak"].to_numpy(zero_copy_only=False)
        many = self.task == "multilabel"
        labels = catalog["labels"].to_pylist() if many else None
        number = index["shard"].to_numpy()
        column = {n: index[n].to_numpy(zero_copy_only=False) for n in ("key", "offset", "size", "crc32")}
        starts = np.searchsorted(number, np.arange(len(outputs) + 1))
        shards = []
        for i, output in enumerate(outputs):
            span = slice(starts[i], starts[i + 1])
            own = column["key"][span]
            rows = np.array([row_of.get(key, -1) for key in own], dtype=np.int64)
            if (rows < 0).any():
                raise CorruptError(f"{output.name}: key {own[rows < 0][0]} is not in the catalog")
            shards.append(
                Shard(
                    output=output,
                    split=str(output.meta["split"]),
                    keys=own,
                    offsets=column["offset"][span],
                    lengths=column["size"][span],
                    crcs=column["crc32"][span],
                    label=label[rows].astype(np.int32),
                    labels=np.array([labels[r] for r in rows], dtype=np.int8) if labels else None,
                    patient=np.array([patient[r] or keys[r] for r in rows], dtype=object),
                    leak=leak[rows].astype(bool),
                )
            )
        return shards

    def of_split(self, split: str) -> list[Shard]:
        """Shards of one split."""
        return [shard for shard in self.shards if shard.split == split]


def read_image(store: Store, shard: Shard, row: int) -> bytes:
    """The encoded bytes of one image, crc checked; CorruptError names shard and key."""
    data = store.read(shard.output.name, int(shard.offsets[row]), int(shard.lengths[row]))
    if zlib.crc32(data) != int(shard.crcs[row]):
        raise CorruptError(f"{shard.output.name}: bytes of {shard.keys[row]} are not those ingested; run repair")
    return data
