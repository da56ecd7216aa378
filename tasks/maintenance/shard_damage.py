"""Which samples and which other parts of a damaged shard differ from what was written.

Everything of a shard but the images follows from the index: names, sizes and labels. So each sample is written
anew around the image found, and compared with what lies there; memory holds one sample at a time.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from infra.storage.store import Store
from tasks.ingest.shard import ShardWriter

BLOCK = 1 << 20
READ_AHEAD = 4 << 20


class StoredBytes(io.RawIOBase):
    """An object as it lies in the store, damaged or not, read range by range."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._left, self._at = store, name, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), self._left)
        if count:
            buffer[:count] = self._store.read(self._name, self._at, count, cached=False)
        self._at, self._left = self._at + count, self._left - count
        return count


@dataclass
class ShardDamage:
    """Keys of images that are not as ingested, and names of other parts that differ."""

    samples: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def detail(self) -> str:
        """The damage in words: which other parts differ; without those, whether images do."""
        if self.other:
            return f"damaged in the {', the '.join(self.other)}"
        return "images damaged" if self.samples else "bytes differ, yet no image or header does"


def compare_shard(store: Store, name: str, there: int, rows: pa.Table, size: int) -> ShardDamage:
    """Compare a shard with its rows of the index.

    Args:
        there: bytes that the store holds under the name.
        rows: its rows of the index (schema INDEX), in shard order.
        size: bytes that the shard should have.
    """
    with io.BufferedReader(StoredBytes(store, name, there), READ_AHEAD) as stream:
        return _compare(stream, rows, size)


def _compare(stream: BinaryIO, rows: pa.Table, size: int) -> ShardDamage:
    found = ShardDamage()
    at = 0
    for row in rows.to_pylist():
        start, image_size = row["offset"] - tarfile.BLOCKSIZE, row["size"]
        if at != start:
            found.other.append(f"index, which leaves a gap before {row['key']}")
            return found
        head, image = _exactly(stream, tarfile.BLOCKSIZE), _exactly(stream, image_size)
        if len(image) != image_size or zlib.crc32(image) != row["crc32"]:
            found.samples.append(row["key"])
        image = image.ljust(image_size, b"\0")
        wanted, places = _sample(row, image)
        there = head + image + _exactly(stream, len(wanted) - tarfile.BLOCKSIZE - image_size)
        found.other += [name for begin, end, name in places if there[begin:end] != wanted[begin:end]]
        at += len(wanted)
    _compare_end(stream, at, size, found)
    return found


def _sample(row: dict[str, Any], image: bytes) -> tuple[bytes, list[tuple[int, int, str]]]:
    """A sample's members as they were written, and what lies where among them: (start, end, name)."""
    writer = ShardWriter()
    writer.add(row["key"], row["ext"], image, row["label"], row["labels"])
    tar = writer.close()
    places = []
    end = 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive.getmembers():
            data, stop = member.offset_data, member.offset_data + member.size
            end = data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            places.append((member.offset, data, f"header of {member.name}"))
            if member.name.endswith(".json"):
                places.append((data, stop, f"json of {row['key']}"))
            places.append((stop, end, f"padding after {member.name}"))
    return tar[:end], places


def _compare_end(stream: BinaryIO, at: int, size: int, found: ShardDamage) -> None:
    rest = size - at
    while rest > 0:
        block = stream.read(min(BLOCK, rest))
        if not block or block.strip(b"\0"):
            found.other.append("end of the archive")
            return
        rest -= len(block)
    if stream.read(1):
        found.other.append("end of the archive, which goes on")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size > 0 and (block := stream.read(size)):
        parts.append(block)
        size -= len(block)
    return b"".join(parts)
