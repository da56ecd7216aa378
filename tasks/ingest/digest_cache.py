"""Digests of source files by path, size and time stamp, so that no file is hashed twice.

The cache enters no key: losing it costs time and nothing else.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.compute.cluster import cores
from infra.errors import is_transient
from infra.storage.store import MissingObjectError, Store
from tasks.ingest.image_table import as_text, mask, place_in
from tasks.ingest.keys import KeyedHasher
from tasks.sources.base import Source

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("sha256", pa.string())])
BATCH = 5000  # files hashed between looks at the clock
SECONDS_BETWEEN_SAVES = 60.0  # so that a killed run loses little
THREADS_A_CORE = 4  # hashing waits for the disk more than for the processor


class DigestCache:
    """Path, stamp and size to the sha256 of the file's bytes.

    Args:
        hasher: of a private corpus. Paths, stamps and digests are then keyed hashes; sizes are 0 and hashed with
            the stamps, because a size and a digest show whoever has a file that it is here.
    """

    def __init__(self, store: Store, title: str, hasher: KeyedHasher | None = None) -> None:
        self._plain = f"listings/{title}.parquet"
        self.store, self.name = store, f"listings/{title}.keyed.parquet" if hasher else self._plain
        self._hasher = hasher
        self.hashed = 0
        self._known = SCHEMA.empty_table()

    def _load(self) -> None:
        try:
            self._known = pq.read_table(io.BytesIO(self.store.get(self.name))).select(SCHEMA.names).cast(SCHEMA)
        except (MissingObjectError, pa.ArrowInvalid, KeyError):
            self._known = SCHEMA.empty_table()

    def digests(self, source: Source, files: pa.Table, *, hash_new: bool = True) -> tuple[pa.Array, dict[int, OSError]]:
        """sha256 (keyed where private) of each file's bytes, and by row number why a file could not be read.

        Args:
            source: where the files lie.
            files: columns path, size, stamp.
            hash_new: False leaves the sha256 of files that are not in the cache blank, and saves nothing.
        """
        self._load()
        try:
            return self._digests(source, files, hash_new)
        finally:
            # What is saved need not stay in memory while the shards are made.
            self._known = SCHEMA.empty_table()

    def _digests(self, source: Source, files: pa.Table, hash_new: bool) -> tuple[pa.Array, dict[int, OSError]]:
        listed = self._listed(files)
        known = [as_text(self._known[n]) for n in ("path", "stamp", "sha256")]
        at = place_in(listed[0], known[0])
        there = pa.array(np.maximum(at, 0))
        if len(self._known):
            same = mask(pc.equal(known[1].take(there), listed[1])) & (at >= 0)
            same &= self._known["size"].to_numpy()[np.maximum(at, 0)] == listed[2].to_numpy()
            found = pc.if_else(pa.array(same), known[2].take(there), "")
        else:
            same, found = np.zeros(len(files), bool), pa.repeat("", len(files))
        fresh = np.flatnonzero(~same)
        if not hash_new or not len(fresh):
            return found, {}
        digests, faults = self._hash(source, files, fresh, listed)
        return pc.replace_with_mask(found, pa.array(~same), digests), faults

    def _listed(self, files: pa.Table) -> list[pa.Array]:
        """Paths, stamps and sizes as the cache has them."""
        path, stamp, size = as_text(files["path"]), as_text(files["stamp"]), pa.array(files["size"].to_numpy())
        if self._hasher is None:
            return [path, stamp, size]
        both = pc.binary_join_element_wise(stamp, size.cast(pa.string()), "\x00")
        paths = as_text([self.listed_name(text) for text in path.to_pylist()])
        stamps = as_text([self._hasher.hash("stamp", text) for text in both.to_pylist()])
        return [paths, stamps, pa.array(np.zeros(len(files), np.int64))]

    def listed_name(self, path: str) -> str:
        """What the cache calls a path."""
        return self._hasher.hash("path", path) if self._hasher else path

    def _hash(
        self, source: Source, files: pa.Table, fresh: np.ndarray, listed: list[pa.Array]
    ) -> tuple[pa.Array, dict[int, OSError]]:
        self._drop(listed[0].take(pa.array(fresh)))
        digests: list[pa.Array] = []
        faults: dict[int, OSError] = {}
        saved_at = time.monotonic()
        for start in range(0, len(fresh), BATCH):
            rows = fresh[start : start + BATCH]
            results = list(_digests(source, files.take(pa.array(rows))))
            for row, result in zip(rows, results, strict=True):
                if isinstance(result, OSError):
                    faults[int(row)] = result
            digests.append(as_text([self._shown(result) for result in results]))
            self._add(listed, rows, digests[-1])
            if time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
                self.save()
                saved_at = time.monotonic()
        self.save()
        return pa.concat_arrays(digests), faults

    def _shown(self, result: str | OSError) -> str:
        if isinstance(result, OSError):
            return ""
        return self._hasher.digest(result) if self._hasher else result

    def _add(self, listed: list[pa.Array], rows: np.ndarray, digests: pa.Array) -> None:
        at = pa.array(rows)
        columns = [listed[0].take(at), listed[2].take(at), listed[1].take(at), digests]
        new = pa.table(columns, schema=SCHEMA).filter(pc.not_equal(digests, ""))
        self.hashed += len(new)
        self._known = pa.concat_tables([self._known, new])

    def _drop(self, paths: pa.Array) -> None:
        self._known = self._known.filter(pc.invert(pc.is_in(self._known["path"], value_set=paths)))

    def forget(self, names: list[str]) -> None:
        """Drop entries that turned out to be wrong; they are hashed again next time."""
        self._load()
        self._drop(as_text(names))
        self.save()

    def save(self) -> None:
        """Write it to the store."""
        sink = io.BytesIO()
        pq.write_table(self._known.sort_by("path"), sink, compression="zstd")
        self.store.put(self.name, sink.getvalue())
        if self._hasher:
            # Earlier releases kept digests of a private corpus's files here that were not keyed.
            self.store.delete(self._plain)


def erase_from_listings(store: Store, title: str, rows: pa.Table) -> None:
    """Drop what the cache of a corpus took down of some images.

    Args:
        rows: of a catalog; private corpora's have keyed hashes, as the cache has.
    """
    digests = as_text(rows["source_sha256"]).filter(pc.not_equal(as_text(rows["source_sha256"]), ""))
    sources = [name for name in as_text(rows["source"]).to_pylist() if name]
    names = as_text([*sources, *as_text(rows["key"]).to_pylist()])
    for name in (f"listings/{title}.parquet", f"listings/{title}.keyed.parquet"):
        try:
            known = pq.read_table(io.BytesIO(store.get(name)))
        except MissingObjectError:
            continue
        paths = as_text(known["path"])
        gone = mask(pc.is_in(known["sha256"], value_set=digests)) | mask(pc.is_in(paths, value_set=names))
        for source in sources:
            # The cache's paths begin at the source's root, the catalog's at the corpus's.
            gone |= mask(pc.ends_with(paths, f"/{source}"))
        if gone.any():
            sink = io.BytesIO()
            pq.write_table(known.filter(pa.array(~gone)), sink, compression="zstd")
            store.put(name, sink.getvalue())


def _digests(source: Source, files: pa.Table) -> Iterator[str | OSError]:
    def one(path: str, stamp: str) -> str | OSError:
        try:
            return source.digest(path, stamp)
        except OSError as error:
            if is_transient(error):
                raise
            return error

    with ThreadPoolExecutor(cores() * THREADS_A_CORE) as pool:
        yield from pool.map(one, files["path"].to_pylist(), files["stamp"].to_pylist())
