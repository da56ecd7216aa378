"""Shards as bytes: the same tar on every machine (DESIGN: Shard)."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any

from infra.digest import canonical_json

KEY_LIMIT = 90  # USTAR holds names of 100 characters; the key carries an extension


def note_of(label: int, labels: Sequence[int] | None) -> bytes:
    """The json beside an image: its label as at ingest, for foreign readers."""
    note: dict[str, Any] = {"label": label}
    if labels is not None:
        note["labels"] = list(labels)
    return canonical_json(note)


class ShardWriter:
    """Collects members and notes where each image's bytes lie."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, key: str, ext: str, image: bytes, label: int, labels: Sequence[int] | None) -> tuple[int, int, int]:
        """Append an image and its json; returns (offset, size, crc32) of the image's bytes."""
        offset = self._member(f"{key}.{ext}", image)
        self._member(f"{key}.json", note_of(label, labels))
        return offset, len(image), zlib.crc32(image)

    def _member(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        # mtime, uid and gid are 0 and the names are blank by default.
        info.size, info.mode = len(data), 0o644
        start = self._tar.offset
        self._tar.addfile(info, io.BytesIO(data))
        return start + tarfile.BLOCKSIZE

    def close(self) -> bytes:
        """The whole tar."""
        self._tar.close()
        return self._buffer.getvalue()
