"""Shards as a WebDataset pipeline that cannot lose images in silence.

WebDataset takes a tar that was cut at a member's boundary, or that has one flipped byte in a header, for a
shorter tar. Here every shard is held against the index: the same keys in the same order, each crc right.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import webdataset as wds
from webdataset.compat import FluidInterface

from infra.errors import CorruptError
from infra.manifest import Manifest
from infra.store import Store
from tasks.catalog import from_parquet

Sample = dict[str, Any]


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
    index = from_parquet(store.get(manifest.output(kind="index").name))
    promised: dict[str, list[tuple[str, str, int]]] = {o.name: [] for o in shards}
    columns = [index[name].to_pylist() for name in ("shard", "key", "ext", "crc32")]
    for number, key, ext, crc in zip(*columns, strict=True):
        promised[shards[number].name].append((key, ext, crc))
    urls = [o.name for o in shards if o.meta["split"] == split]
    if not urls:
        raise KeyError(f"the manifest has no shard of split {split!r}")
    return ShardPipeline(wds.SimpleShardList(urls), wds.split_by_worker, _Guarded(store, promised))


class _Guarded:
    """A pipeline stage: shard names in, checked samples out."""

    def __init__(self, store: Store, promised: dict[str, list[tuple[str, str, int]]]) -> None:
        self.store, self.promised = store, promised

    def __call__(self, shards: Iterable[Sample]) -> Iterator[Sample]:
        for shard in shards:
            yield from self._shard(shard["url"])

    def _shard(self, name: str) -> Iterator[Sample]:
        wanted = self.promised[name]
        count = 0
        with self.store.open(name) as stream:
            members = wds.tariterators.tar_file_expander([{"url": name, "stream": stream}])
            try:
                for sample in wds.tariterators.group_by_keys(members):
                    self._compare(name, sample, wanted, count)
                    count += 1
                    yield sample
            except (tarfile.TarError, ValueError, EOFError) as error:
                raise CorruptError(f"{name}: after {count} images: {error}; run stillroom repair") from None
        if count != len(wanted):
            raise CorruptError(f"{name}: ends after {count} of {len(wanted)} images; run stillroom repair")

    def _compare(self, name: str, sample: Sample, wanted: list[tuple[str, str, int]], at: int) -> None:
        if at >= len(wanted):
            raise CorruptError(f"{name}: holds more than its {len(wanted)} images; run stillroom repair")
        key, ext, crc = wanted[at]
        if sample["__key__"] != key or ext not in sample or "json" not in sample:
            raise CorruptError(f"{name}: image {at} should be {key}.{ext}, with its json; run stillroom repair")
        if zlib.crc32(sample[ext]) != crc:
            raise CorruptError(f"{name}: the bytes of {key} are not those ingested; run stillroom repair")
