"""The store in an S3 bucket (any endpoint), with copies on this machine of what is read in pieces."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from infra.errors import CorruptError
from infra.storage import s3_claim, s3_upload
from infra.storage.protocol import MissingObjectError, checked_name
from infra.storage.s3_cache import Cache, digest_in
from infra.storage.s3_client import Bucket, ObjectEntry


class S3Store:
    """A prefix in a bucket; see `infra.storage.protocol.Store` for what each method promises.

    Objects whose names end in a digest of their bytes (`...-1a2b3c4d.tar`) are read through the cache of
    infra/storage/s3_cache.py; all others (heads, listings, manifests, records, checkpoints) are fetched each time.

    Raises (every call):
        UsageError: credentials, bucket, region or policy are wrong; the text says which variable to look at.
        TransientError: the attempts are spent; the text names the object and the last fault.
    """

    def __init__(self, url: str) -> None:
        self.bucket, prefix = Bucket.of(url)
        self.url = self.bucket.address.url(prefix)
        self._root = f"{prefix}/" if prefix else ""
        self._cache = Cache.of_settings()

    def __reduce__(self) -> tuple[type[S3Store], tuple[str]]:
        return S3Store, (self.url,)

    def _key(self, name: str) -> str:
        checked_name(name)
        return self._root + name

    def _where(self, key: str) -> str:
        return f"{self.bucket.address.endpoint}/{self.bucket.name}/{key}"

    def put(self, name: str, data: bytes) -> None:
        key = self._key(name)
        s3_upload.put(self.bucket, key, data)

    def put_file(self, name: str, path: Path) -> None:
        s3_upload.put_file(self.bucket, self._key(name), path)

    def put_new(self, name: str, data: bytes) -> bool:
        if self.exists(name):
            return False
        key = self._key(name)
        if s3_claim.knows_condition(self.bucket, key):
            return s3_upload.put_if_absent(self.bucket, key, data)
        with s3_claim.claimed(self.bucket, key):
            # Somebody may have written and gone between the first look and the claim.
            if self.exists(name):
                return False
            self.put(name, data)
            return True

    def get(self, name: str) -> bytes:
        return self.bucket.get(self._key(name))

    def read(self, name: str, offset: int, size: int, *, cached: bool = True) -> bytes:
        key = self._key(name)
        if not cached or not digest_in(name):
            return self.bucket.get(key, start=offset, size=size)
        with self.open(name) as file:
            data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise CorruptError(f"{self.bucket.where(key)}: {len(data)} of {size} bytes at offset {offset}")
        return data

    def sizes(self, prefix: str) -> dict[str, int]:
        return {entry.key[len(self._root) :]: entry.size for entry in self._entries(prefix)}

    def ages(self, prefix: str) -> dict[str, float]:
        now = time.time()
        return {entry.key[len(self._root) :]: now - entry.modified for entry in self._entries(prefix)}

    def age(self, name: str) -> float | None:
        try:
            modified = self.bucket.modified(self._key(name))
        except MissingObjectError:
            return None
        return time.time() - modified

    def stamps(self, prefix: str) -> dict[str, str]:
        return {e.key[len(self._root) :]: f"{e.etag}-{e.modified}" for e in self._entries(prefix)}

    def _entries(self, prefix: str) -> Iterator[ObjectEntry]:
        # Consoles make empty objects that end in a slash to show folders.
        return (entry for entry in self.bucket.list(self._root + prefix) if not entry.key.endswith("/"))

    def exists(self, name: str) -> bool:
        return self.bucket.exists(self._key(name))

    def delete(self, name: str) -> None:
        key = self._key(name)
        self.bucket.with_retries(key, lambda: self.bucket.client.delete_object(Bucket=self.bucket.name, Key=key))
        self._cache.drop(self._where(key))

    def private(self, name: str) -> None:
        self._key(name)

    def local_path(self, name: str) -> Path:
        key = self._key(name)
        where = self._where(key)
        if digest_in(name):
            with self.open(name):
                path = self._cache.path(where)
            if path.exists():
                return path
        return self._cache.place(where, lambda file: self.bucket.download(key, file))

    def open(self, name: str, *, cached: bool = True) -> BinaryIO:
        key = self._key(name)
        if cached and digest_in(name):
            return self._cache.open(self._where(key), lambda file: self.bucket.download(key, file))
        file = self._cache.scratch()
        try:
            self.bucket.download(key, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def abandoned(self, older_than: float) -> list[str]:
        return [f"{u.key[len(self._root) :]} (upload {u.id})" for u in self._stale(older_than)]

    def sweep(self, older_than: float) -> int:
        stale = self._stale(older_than)
        for upload in stale:
            s3_upload.abort(self.bucket, upload)
        return len(stale)

    def _stale(self, older_than: float) -> list[s3_upload.Upload]:
        return [upload for upload in s3_upload.uploads(self.bucket, self._root) if upload.age > older_than]
