"""One shard: from source files to a tar in the store. Runs on a Dask worker; idempotent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from infra.cache import StageCache, UnitRecord
from infra.digest import sha256_bytes, unit_key
from infra.errors import CorruptError, TransientError
from infra.manifest import Output, Quarantined
from infra.store import open_store
from tasks.ingest.entries import NOT_READABLE
from tasks.ingest.pixels import EXTENSIONS, UnreadableError, reencode
from tasks.ingest.tarfiles import ShardWriter

STAGE, VERSION = "ingest", 1


class SourceChangedError(TransientError):
    """A source file is not what the listing says; `key` is the image's."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message, key)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Item:
    """An image to store."""

    key: str
    path: str  # below corpus.root
    sha: str  # of the source bytes, as listed
    label: int
    labels: tuple[int, ...] | None


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to make one shard, and nothing else."""

    store: str
    root: str
    folder: str  # of the shards in the store
    split: str
    number: int
    recipe: dict[str, Any]  # size, encode, quality
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


def make_shard(job: ShardJob) -> UnitRecord:
    """Make one shard, store it, leave its record.

    The record's facts hold `rows`: key, offset, size, crc32, width and height of each image stored. Images
    that cannot be decoded are quarantined under their key; a shard that keeps none is not stored.

    Raises:
        SourceChangedError: a file is gone, or its bytes are not those listed.
        CorruptError: the shard was made before and does not come out the same.
    """
    # Dask runs one shard a thread; OpenCV's own threads would only fight over the cores.
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    writer, rows, bad = ShardWriter(), [], []
    ext = EXTENSIONS[job.recipe["encode"]]
    for item in job.items:
        try:
            image = reencode(_read(job, item), **job.recipe)
        except UnreadableError as error:
            bad.append(Quarantined(source=item.key, reason=f"{NOT_READABLE}{error}", stage=STAGE))
            continue
        place = writer.add(item.key, ext, image.data, item.label, item.labels)
        rows.append([item.key, *place, image.width, image.height])
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
    record = UnitRecord(job.key, outputs, tuple(bad), {"rows": rows})
    cache.record(STAGE, record)
    return record


def _read(job: ShardJob, item: Item) -> bytes:
    try:
        data = Path(job.root, item.path).read_bytes()
    except OSError as error:
        why = f"the file of {item.key} cannot be read ({error.strerror}); it was there when listed"
        raise SourceChangedError(f"{job.title}: {why}. Put it back or run again", item.key) from None
    if sha256_bytes(data) != item.sha:
        why = f"the file of {item.key} changed since it was listed"
        raise SourceChangedError(f"{job.title}: {why}. Run again when nothing writes to the corpus", item.key)
    return data
