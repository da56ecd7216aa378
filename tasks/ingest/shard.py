"""One shard: from source files to a tar in the store. Runs on a Dask worker; idempotent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2

from infra.digest import sha256_bytes, unit_key
from infra.errors import CorruptError, TransientError, is_transient
from infra.storage.manifest import Output, Quarantined
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import open_store
from tasks.ingest.pixels import Encoded, Recipe, UnreadableError, encode_image
from tasks.ingest.roll import NOT_READABLE
from tasks.ingest.tarfiles import ShardWriter
from tasks.sources import open_source
from tasks.sources.base import ChangedError, Source

STAGE, VERSION = "ingest", 2


class SourceChangedError(TransientError):
    """A source file is not what the listing says; `key` is the image's."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message, key)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Item:
    """An image to store."""

    key: str
    path: str  # in the source
    stamp: str  # what the source needs to find the bytes, and to know that they are those listed
    sha: str  # of the source bytes, as listed
    label: int
    labels: tuple[int, ...] | None


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to make one shard, and nothing else."""

    store: str
    source: str
    folder: str  # of the shards in the store
    split: str
    number: int
    recipe: dict[str, Any]  # fields of Recipe
    items: tuple[Item, ...]
    sha: str = ""  # of the shard, when it was made before and must come out the same

    @property
    def key(self) -> str:
        """Key of the unit."""
        inputs = [f"{i.key} {i.sha} {i.label} {i.labels}" for i in self.items]
        section = {**self.recipe, "folder": self.folder, "split": self.split, "number": self.number}
        return unit_key(STAGE, VERSION, inputs=inputs, section=section)

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.folder}/{self.split}-{self.number:05d}"


# What a shard's record says of each image stored, in this order; the index takes it up.
ROW = ("key", "ext", "offset", "size", "crc32", "width", "height", "phash")


def make_shard(job: ShardJob) -> UnitRecord:
    """Make one shard, store it, leave its record.

    The record's facts hold `rows`: the values of ROW for each image stored (phash in hexadecimal digits), and
    `cropped`: how many were cropped. Images that cannot be decoded are quarantined under their key; a shard
    that keeps none is not stored.

    Raises:
        SourceChangedError: a file is gone, or is not the one that was listed.
        CorruptError: the shard was made before and does not come out the same.
    """
    # Dask runs one shard a thread; OpenCV's own threads would only fight over the cores.
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    source, recipe = _source(job.source), Recipe(**job.recipe)
    writer, rows, bad, cropped = ShardWriter(), [], [], 0
    for item in job.items:
        try:
            image = encode_image(_read(source, job, item), recipe)
        except UnreadableError as error:
            bad.append(Quarantined(source=item.key, reason=f"{NOT_READABLE}{error}", stage=STAGE))
            continue
        rows.append(_row(writer, item, image))
        cropped += image.cropped
    cache = StageCache(open_store(job.store))
    outputs: tuple[Output, ...] = ()
    tar = writer.close()
    if job.sha and (bad or sha256_bytes(tar) != job.sha):
        raise CorruptError(
            f"{job.title}: made again it is not the shard that the manifest names; were libraries upgraded? "
            "Ingest into another store, or under another corpus.name"
        )
    if rows:
        meta = {"kind": "shard", "split": job.split, "number": job.number}
        name = f"{job.folder}/{job.split}-{job.number:05d}-{{sha8}}.tar"
        outputs = (cache.put_object(name, tar, samples=len(rows), unit=job.key, meta=meta),)
    record = UnitRecord(job.key, outputs, tuple(bad), {"rows": rows, "cropped": cropped})
    cache.record(STAGE, record)
    return record


def _row(writer: ShardWriter, item: Item, image: Encoded) -> list[Any]:
    offset, size, crc = writer.add(item.key, image.ext, image.data, item.label, item.labels)
    return [item.key, image.ext, offset, size, crc, image.width, image.height, image.phash.hex()]


@lru_cache(maxsize=4)
def _source(url: str) -> Source:
    return open_source(url)


def _read(source: Source, job: ShardJob, item: Item) -> bytes:
    try:
        return source.read(item.path, item.stamp)
    except ChangedError:
        why = f"the file of {item.key} changed since it was listed"
        raise SourceChangedError(f"{job.title}: {why}. Run again when nothing writes to the corpus", item.key) from None
    except OSError as error:
        if is_transient(error):
            raise
        why = f"the file of {item.key} cannot be read ({error.strerror or error}); it was there when listed"
        raise SourceChangedError(f"{job.title}: {why}. Put it back or run again", item.key) from None
