"""One shard: from source files to a tar in the store. Runs on a Dask worker; idempotent."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import cv2

from infra.digest import canonical_json, sha256_bytes, unit_key
from infra.errors import CorruptError, TransientError, is_transient
from infra.storage.manifest import Output, Quarantined
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import open_store
from tasks.corpora.attributes import less_known
from tasks.ingest.image_table import NOT_READABLE
from tasks.ingest.limits import LimitedCalls
from tasks.ingest.pixels import EncodedImage, ImageRecipe, UnreadableError, encode_image
from tasks.ingest.private_words import PrivateWords, guarded
from tasks.sources import open_source
from tasks.sources.base import Source, SourceFileChangedError

STAGE, VERSION = "ingest", 2
SEVERAL = "several_pages"  # fact: images whose sources have more pages or frames than the one that is stored
# What a shard's record says of each image stored, in this order; the index takes it up.
ROW = ("key", "ext", "offset", "size", "crc32", "width", "height", "phash")


_T = TypeVar("_T")


class SourceChangedError(TransientError):
    """A source file is not what the listing says; `key` is the image's."""

    quotes_nothing = True  # see `tasks.ingest.private_words`

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message, key)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class ShardItem:
    """An image to store."""

    key: str
    # Dask logs the arguments of a call that failed: what must not be read in a log is not in the repr.
    path: str = field(repr=False)  # in the source
    stamp: str = field(repr=False)  # what the source needs to find the bytes, and to know that they are those listed
    sha: str  # of the source bytes, as listed
    label: int
    labels: tuple[int, ...] | None


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to make one shard, and nothing else.

    The key is that of all items, whichever of them are skipped.
    """

    store: str
    source: str = field(repr=False)
    folder: str  # of the shards in the store
    split: str
    number: int
    recipe: dict[str, Any]  # fields of Recipe
    items: tuple[ShardItem, ...]
    sha: str = ""  # of the shard, when it was made before and must come out the same
    skip: tuple[tuple[int, str], ...] = ()  # items that kill the process that decodes them, and how
    image_seconds: float = 60.0  # of processor time that one image may take; not part of the key
    private: str = ""  # title of the corpus where it is private

    @property
    def words(self) -> PrivateWords | None:
        """Words about the corpus where it is private."""
        return PrivateWords(self.private) if self.private else None

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

    @property
    def about(self) -> str:
        """What it is of, for messages."""
        return f"shard {self.title}, images {self.items[0].key} to {self.items[-1].key}"


def make_shard(job: ShardJob) -> UnitRecord:
    """Make one shard, store it, leave its record.

    The record's facts hold `rows`: the values of ROW for each image stored (phash in hexadecimal digits), and
    `cropped`: how many were cropped; SEVERAL where there are such; where samples have more than 8 bits, `deepest`: the
    most bits that one needs, and the key of its image; where headers tell some, `attributes` by key; `measures` of each
    image stored (`tasks.ingest.image_quality.MEASURES`) and `overlays`, whether each has one, or None; records of
    earlier releases lack both. Images that cannot be decoded are quarantined under their key; a shard without an image
    is not stored.

    Raises:
        SourceChangedError: a file is gone, or is not the one that was listed.
        CorruptError: the shard was made before and does not come out the same.
    """
    with guarded(job.words):
        return _make_shard(job)


def _make_shard(job: ShardJob) -> UnitRecord:
    writer, rows, bad, cropped, several = ShardWriter(), [], [], 0, 0
    measures: list[list[float]] = []
    overlays: list[bool | None] = []
    deepest: tuple[int, str] = (0, "")
    attributes: dict[str, dict[str, str]] = {}
    for item, image in each_image(job, encode_image):
        if isinstance(image, str):
            bad.append(Quarantined(source=item.key, reason=why_unreadable(job, item, image), stage=STAGE))
        else:
            rows.append(_row(writer, item, image))
            measures.append([round(value, 5) for value in image.measures])
            overlays.append(image.overlay)
            cropped += image.cropped
            several += image.several
            if image.attributes:
                attributes[item.key] = less_known(image.attributes) if job.private else dict(image.attributes)
            deepest = max(deepest, (image.bits, item.key))
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
    facts = {
        "rows": rows,
        "cropped": cropped,
        "measures": measures,
        "overlays": overlays,
        **({SEVERAL: several} if several else {}),
        **({"deepest": list(deepest)} if deepest[0] else {}),
        **({"attributes": attributes} if attributes else {}),
    }
    record = UnitRecord(job.key, outputs, tuple(bad), facts)
    cache.record(STAGE, record)
    return record


def probe_images(job: ShardJob, rows: Sequence[int]) -> None:
    """Read, decode and encode some items of a job and store nothing: for the search for images that kill a process."""
    with guarded(job.words):
        for _ in each_image(with_rows(job, rows), encode_image):
            pass


def with_rows(job: ShardJob, rows: Sequence[int]) -> ShardJob:
    """A job with some of its items alone, none of them skipped."""
    return replace(job, items=tuple(job.items[row] for row in rows), skip=())


def why_unreadable(job: ShardJob, item: ShardItem, reason: str) -> str:
    """The reason for which an item is quarantined, as it may be told."""
    return f"{NOT_READABLE}{job.words.of_file(reason, item.key) if job.words else reason}"


def each_image(job: ShardJob, function: Callable[[bytes, ImageRecipe], _T]) -> Iterator[tuple[ShardItem, _T | str]]:
    """Each item with what `function` makes of its file's bytes, or with the reason why it cannot be read.

    Raises:
        SourceChangedError: a file is gone, or is not the one that was listed.
    """
    # Dask runs one shard a thread; OpenCV's own threads would only fight over the cores.
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    source, recipe, skip = _source(job.source), ImageRecipe(**job.recipe), dict(job.skip)
    with closing(LimitedCalls(job.image_seconds)) as limited:
        for row, item in enumerate(job.items):
            if row in skip:
                yield item, f"kills its process: {skip[row]}"
                continue
            try:
                yield item, limited(function, _read(source, job, item), recipe)
            except UnreadableError as error:
                yield item, str(error)


def _row(writer: ShardWriter, item: ShardItem, image: EncodedImage) -> list[Any]:
    offset, size, crc = writer.add(item.key, image.ext, image.data, item.label, item.labels)
    return [item.key, image.ext, offset, size, crc, image.width, image.height, image.phash.hex()]


@lru_cache(maxsize=4)
def _source(url: str) -> Source:
    return open_source(url)


def _read(source: Source, job: ShardJob, item: ShardItem) -> bytes:
    try:
        return source.read(item.path, item.stamp)
    except SourceFileChangedError:
        why = f"the file of {item.key} changed since it was listed"
        raise SourceChangedError(f"{job.title}: {why}. Run again when nothing writes to the corpus", item.key) from None
    except OSError as error:
        if is_transient(error):
            raise
        how = job.words.of_os_error(error, item.key) if job.words else error.strerror or error
        why = f"the file of {item.key} cannot be read ({how}); it was there when listed"
        raise SourceChangedError(f"{job.title}: {why}. Put it back or run again", item.key) from None


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


def note_of(label: int, labels: Sequence[int] | None) -> bytes:
    """The json beside an image: its label as at ingest, for foreign readers."""
    note: dict[str, Any] = {"label": label}
    if labels is not None:
        note["labels"] = list(labels)
    return canonical_json(note)
