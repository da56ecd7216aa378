"""Shards as a WebDataset pipeline in which a lost or damaged image is an error.

WebDataset takes a tar that was cut at a member's boundary, or that has one flipped byte in a header, for a
shorter tar. Here the index says where every image lies: each is read from its place and its crc compared, so
a sample is right or an error, and none is missing, whatever became of the tar around it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset as wds
from webdataset.compat import FluidInterface

from infra.errors import CorruptError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.catalog import from_parquet
from tasks.ingest.shard import note_of

Sample = dict[str, Any]
_COLUMNS = ("key", "ext", "offset", "size", "crc32", "label", "labels")


class ShardPipeline(wds.DataPipeline, FluidInterface):
    """A pipeline with WebDataset's usual methods: `.decode("rgb")`, `.to_tuple("jpg;png", "json")`, ..."""


def as_webdataset(store: Store, manifest: Manifest, split: str) -> ShardPipeline:
    """Samples of one split, in manifest order, shared out among DataLoader workers by shard.

    A sample holds `__key__`, `__url__` (name in the store), the image's bytes under `jpg` or `png`, and
    `json` (label as at ingest; labels that count are the catalog's).

    Raises:
        KeyError: the manifest has no shard of that split.
        CorruptError: while reading, when a shard does not hold what the index promises.
    """
    shards = manifest.outputs_where(kind="shard")
    index = from_parquet(read_output(store, manifest.output(kind="index")))
    starts = np.searchsorted(index["shard"].to_numpy(), np.arange(len(shards) + 1)).tolist()
    expected = {o.name: index.slice(starts[i], starts[i + 1] - starts[i]) for i, o in enumerate(shards)}
    urls = [o.name for o in shards if o.meta["split"] == split]
    if not urls:
        raise KeyError(f"the manifest has no shard of split {split!r}")
    return ShardPipeline(wds.SimpleShardList(urls), wds.split_by_worker, _CheckedReader(store, expected))


class _CheckedReader:
    """A pipeline stage: shard names in, checked samples out."""

    def __init__(self, store: Store, expected: dict[str, pa.Table]) -> None:
        self.store, self.expected = store, expected

    def __call__(self, shards: Iterable[Sample]) -> Iterator[Sample]:
        for shard in shards:
            yield from self._shard(shard["url"])

    def _shard(self, name: str) -> Iterator[Sample]:
        table = self.expected[name]
        rows = zip(*(table[column].to_pylist() for column in _COLUMNS), strict=True)
        with self.store.open(name) as stream:
            for key, ext, offset, size, crc, label, labels in rows:
                stream.seek(offset)
                data = stream.read(size)
                if len(data) != size:
                    raise CorruptError(f"{name}: ends within {key}; run stillroom repair")
                if zlib.crc32(data) != crc:
                    raise CorruptError(f"{name}: the bytes of {key} are not those ingested; run stillroom repair")
                yield {"__key__": key, "__url__": name, ext: data, "json": note_of(label, labels)}
