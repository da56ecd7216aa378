"""The listing: which bytes a path held when it was last hashed, so that nothing is hashed twice.

It is a cache outside every digest: losing it costs time and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from infra.cluster import cores
from infra.digest import sha256_file
from infra.store import MissingObjectError, Store

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("sha256", pa.string())])
SAVE_EVERY = 5000  # files hashed between saves, so that a killed run loses little
THREADS_A_CORE = 4  # hashing waits for the disk more than for the processor

Entry = tuple[int, int, str]


class Listing:
    """Path (hidden where private) to size, mtime and sha256."""

    def __init__(self, store: Store, title: str) -> None:
        self.store, self.name = store, f"listings/{title}.parquet"
        self.hashed = 0
        self._known: dict[str, Entry] = {}
        try:
            table = pq.read_table(io.BytesIO(store.get(self.name)))
        except (MissingObjectError, pa.ArrowInvalid):
            return
        columns = [table[n].to_pylist() for n in SCHEMA.names]
        self._known = {path: (size, mtime, sha) for path, size, mtime, sha in zip(*columns, strict=True)}

    def digests(
        self,
        root: Path,
        paths: Sequence[str],
        *,
        hide: Callable[[str], str] = lambda path: path,
        hash_new: bool = True,
    ) -> dict[str, str | OSError]:
        """sha256 of each file's bytes, or the error that kept it from being read.

        Args:
            hide: what the listing calls a path; a keyed hash where the corpus is private.
            hash_new: False leaves the sha256 of files that are not listed blank, and saves nothing.
        """
        found: dict[str, str | OSError] = {}
        fresh: list[tuple[str, int, int]] = []
        for path in paths:
            try:
                stat = (root / path).stat()
            except OSError as error:
                found[path] = error
                continue
            size, mtime, sha = self._known.get(hide(path), (-1, -1, ""))
            if (size, mtime) == (stat.st_size, stat.st_mtime_ns):
                found[path] = sha
            else:
                found[path] = ""
                fresh.append((path, stat.st_size, stat.st_mtime_ns))
        if hash_new:
            for start in range(0, len(fresh), SAVE_EVERY):
                batch = fresh[start : start + SAVE_EVERY]
                for (path, size, mtime), result in zip(batch, _hash(root, batch), strict=True):
                    found[path] = result
                    if isinstance(result, str):
                        self.hashed += 1
                        self._known[hide(path)] = (size, mtime, result)
                self.save()
        return found

    def forget(self, names: Sequence[str]) -> None:
        """Drop entries that turned out to be wrong; they are hashed again next time."""
        for name in names:
            self._known.pop(name, None)
        self.save()

    def save(self) -> None:
        """Write it to the store."""
        rows = sorted(self._known.items())
        columns = [[path for path, _ in rows], *([entry[i] for _, entry in rows] for i in range(3))]
        sink = io.BytesIO()
        pq.write_table(pa.table(columns, schema=SCHEMA), sink, compression="zstd")
        self.store.put(self.name, sink.getvalue())


def _hash(root: Path, files: Sequence[tuple[str, int, int]]) -> Iterator[str | OSError]:
    def one(file: tuple[str, int, int]) -> str | OSError:
        try:
            return sha256_file(root / file[0])
        except OSError as error:
            return error

    with ThreadPoolExecutor(cores() * THREADS_A_CORE) as pool:
        yield from pool.map(one, files)
