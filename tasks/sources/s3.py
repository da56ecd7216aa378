"""An S3 prefix, with the archives below it; archives are read by ranges."""

from __future__ import annotations

import errno
import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, islice
from typing import TypeVar

import pyarrow as pa

from infra.errors import CorpusError, CorruptError
from infra.storage.s3_address import Address
from infra.storage.s3_client import Bucket
from infra.storage.s3_retry import ObjectChangedError
from infra.storage.store import MissingObjectError
from tasks.sources.archive_file import Blob
from tasks.sources.archives import (
    Archive,
    Listing,
    SourceWithArchives,
    content,
    find_archives,
    is_archive,
    is_packed_tar,
    merged,
    one_archive,
)
from tasks.sources.base import FILES, LARGEST, Lister, SourceFileChangedError, by_path, too_large, unreadable

_T = TypeVar("_T")
Part = tuple[str, int, str]  # key, size, ETag


class S3Source(SourceWithArchives):
    """What lies below an S3 prefix, or one archive in a bucket where the prefix is named like one.

    Args:
        url: `s3://bucket/prefix[?endpoint=...]`; see infra/storage/s3_address.py.

    Raises:
        UsageError: the url is no such address.
    """

    def __init__(self, url: str) -> None:
        self._bucket, prefix = Bucket.of(url)
        self.url = self._bucket.address.url(prefix)
        self._shown = self._bucket.where(prefix)
        self._alone = prefix.rpartition("/")[2] if is_archive(prefix) or is_packed_tar(prefix) else ""
        folder = prefix.rpartition("/")[0] if self._alone else prefix
        self._prefix = f"{folder}/" if folder else ""

    def list_files(self) -> Listing:
        own, parts = self._list()
        if self._alone:
            if self._alone not in own["path"].to_pylist():
                raise CorpusError(f"corpus.root {self._shown}: no such archive; the bucket has {self._near()}")
            archive = one_archive(own, self._alone, self._show)
            return merged(FILES.empty_table(), {archive.path: self._content(archive, parts)}, self._show)
        if not len(own):
            raise CorpusError(f"corpus.root {self._shown}: no object below this prefix; the bucket has {self._near()}")
        contents = {a.path: self._content(a, parts) for a in find_archives(own, self._show)}
        return merged(own, contents, self._show)

    def read(self, path: str, stamp: str) -> bytes:
        if not stamp.startswith("s:"):
            return self._twice(lambda: SourceWithArchives.read(self, path, stamp))
        with _named(path):
            return self._bucket.get(self._prefix + path, etag=_etag(path, stamp))

    def digest(self, path: str, stamp: str) -> str:
        if not stamp.startswith("s:"):
            return self._twice(lambda: SourceWithArchives.digest(self, path, stamp))
        with _named(path):
            return self._bucket.sha256(self._prefix + path, etag=_etag(path, stamp))

    def blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        with _named(path):
            yield from super().blocks(path, stamp)

    def own_blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        raise unreadable(path, f"x:its stamp {stamp!r} is of another source")

    def blob(self, archive: str, version: str = "") -> Blob:
        return _opened(self._bucket.address, self._prefix + archive, version)

    def _twice(self, call: Callable[[], _T]) -> _T:
        """Call again after an error: a range has no checksum, so damage on the way looks like a damaged archive."""
        try:
            return call()
        except (OSError, SourceFileChangedError):
            return call()

    def _list(self) -> tuple[pa.Table, dict[str, Part]]:
        """Every object, and where the archives among them are."""
        files, parts = Lister(), dict[str, Part]()
        # Of an archive that is corpus.root only itself and its other parts: their keys begin alike.
        start = self._prefix + self._alone.rstrip("0123456789")
        for key, size, etag, _ in self._bucket.list(start):
            path = key[len(self._prefix) :]
            if path.endswith("/") and not size:
                continue  # a mark that makes a folder visible
            odd = any(part in ("", ".", "..") for part in path.split("/"))
            files.add(path, size, "x:its key has an empty, '.' or '..' part; rename it" if odd else f"s:{size}:{etag}")
            if is_archive(path):
                parts[path] = key, size, etag
        return by_path(files.finish()), parts

    def _content(self, archive: Archive, parts: dict[str, Part]) -> pa.Table:
        blob = S3Blob(self._bucket, [parts[path] for path in archive.parts])
        with _named(archive.path):
            return content(archive, blob, blob.version)

    def _show(self, path: str) -> str:
        return self._bucket.where(self._prefix + path)

    def _near(self) -> str:
        base = self._prefix
        if not self._alone:
            base = base[: base.rstrip("/").rfind("/") + 1]
        seen = {e.key[len(base) :].partition("/")[0] for e in islice(self._bucket.list(base), 1000)}
        return ", ".join(sorted(seen)[:8]) or "nothing there"


class S3Blob:
    """An object, or the parts of one that was cut, read by ranges; every response must have the ETag of the listing."""

    def __init__(self, bucket: Bucket, parts: list[Part]) -> None:
        self._bucket, self._parts = bucket, parts
        self._starts = [0, *accumulate(size for _, size, _ in parts)]
        self.name = bucket.where(parts[0][0])
        self.size = self._starts[-1]
        etags = [etag for _, _, etag in parts]
        self._version = etags[0] if len(etags) == 1 else hashlib.sha256("\n".join(etags).encode()).hexdigest()[:32]

    @property
    def version(self) -> str:
        return self._version

    def at(self, offset: int, size: int) -> bytes:
        if offset + size > self.size:
            raise OSError(errno.EIO, "its archive ends before it; get the archive again", self.name)
        found = []
        while size:
            part = bisect_right(self._starts, offset) - 1
            key, _, etag = self._parts[part]
            here = min(size, self._starts[part + 1] - offset)
            found.append(self._bucket.get(key, start=offset - self._starts[part], size=here, etag=etag))
            offset, size = offset + here, size - here
        return b"".join(found)


@lru_cache(maxsize=256)
def _opened(address: Address, key: str, version: str) -> S3Blob:
    """An archive as a worker sees it: one request for its size (and parts), then one range for each member."""
    bucket = Bucket(address)
    base, _, number = key.rpartition(".")
    if number.isdigit():
        found = {e.key: e for e in bucket.list(f"{base}.") if e.key[len(base) + 1 :].isdigit()}
        ordered = sorted(found.values(), key=lambda e: int(e.key.rpartition(".")[2]))
        parts = [(e.key, e.size, e.etag) for e in ordered]
    else:
        head = bucket.head(key)
        parts = [(key, head.size, head.etag)]
    blob = S3Blob(bucket, parts) if parts else None
    if blob is None or blob.version != version:
        raise SourceFileChangedError(
            f"{bucket.where(key)}: it changed after the corpus was listed; run again to list it anew"
        )
    return blob


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors as a source raises them."""
    try:
        yield
    except ObjectChangedError as error:
        raise SourceFileChangedError(f"{error}; run again to list it anew") from None
    except MissingObjectError:
        raise FileNotFoundError(errno.ENOENT, "no such object", path) from None
    except CorruptError as error:
        raise OSError(errno.EIO, "it arrives with other bytes than the server promises", path) from error


def _etag(path: str, stamp: str) -> str:
    size, _, etag = stamp[2:].partition(":")
    if int(size) > LARGEST:
        raise too_large(path)
    return etag
