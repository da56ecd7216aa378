"""Perceptual hashes of images that no shard holds yet: a pass over the cluster before the split is made.

Shards are of one split each, so that images that must stay together have to be known before any is stored. What the
pass cannot read is left to the jobs of the shards, which quarantine it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from tasks.ingest.corpus_listing import ListedCorpus
from tasks.ingest.hash_cache import HashCache
from tasks.ingest.image_table import ImageTable
from tasks.ingest.ingest_plan import ShardSettings, items_of
from tasks.ingest.make_shards import each_done
from tasks.ingest.pixels import hash_image
from tasks.ingest.private_words import guarded
from tasks.ingest.shard import ShardJob, each_image, why_unreadable, with_rows
from tasks.pipeline.context import Context

SECONDS_BETWEEN_SAVES = 60.0  # so that a killed run loses little


@dataclass(frozen=True)
class HashJob(ShardJob):
    """Some images to hash; `folder`, `split` and `sha` say nothing."""

    @property
    def about(self) -> str:
        """What it is of, for messages."""
        return f"hashing images {self.items[0].key} to {self.items[-1].key}"


@dataclass(frozen=True)
class HashedImages:
    """What became of a job's images."""

    hashes: dict[str, bytes]  # by the digest of the source file
    faults: tuple[str, ...]  # messages on images that cannot be read


def hash_images(job: ShardJob) -> HashedImages:
    """Hash the images of a job, on a worker; nothing is stored.

    Raises:
        SourceChangedError: a file is gone, or is not the one that was listed.
    """
    hashes, faults = {}, []
    with guarded(job.words):
        for item, found in each_image(job, hash_image):
            if isinstance(found, bytes):
                hashes[item.sha] = found
            else:
                faults.append(f"{item.key}: {why_unreadable(job, item, found)}")
    return HashedImages(hashes, tuple(faults))


def probe_hashes(job: ShardJob, rows: Sequence[int]) -> None:
    """Hash some images and keep nothing: for the search for images that kill a process."""
    with guarded(job.words):
        for _ in each_image(with_rows(job, rows), hash_image):
            pass


def hash_rows(
    context: Context,
    listed: ListedCorpus,
    images: ImageTable,
    rows: np.ndarray,
    cache: HashCache,
    settings: ShardSettings,
    *,
    batch: int,
    check: Callable[[Sequence[str]], None],
) -> None:
    """Add the hashes of rows to the cache that it does not have; the cluster is used only where there are such.

    Args:
        images: the corpus's images, rows by number.
        settings: where images come from, and what becomes of them.
        batch: images a job.
        check: called with the messages on images that cannot be read; raises when they are too many.

    Raises:
        SourceChangedError: a source file changed; its digest is dropped from the cache of digests.
    """
    digests = images.text("source_sha256").to_pylist()
    wanted = {digests[row]: row for row in rows.tolist() if cache.get(digests[row]) is None}
    order = np.array(sorted(wanted.values()), np.int64)
    if not len(order):
        return
    context.message(f"hashing {len(order):,} images, so that near duplicates are kept in one split")
    faults: list[str] = []
    done, total = 0, -(-len(order) // batch)
    saved_at = time.monotonic()
    try:
        jobs = _jobs(images, order, settings, batch)
        with closing(each_done(context, listed, hash_images, probe_hashes, jobs)) as found:
            for one in found:
                cache.add(one.hashes)
                faults += one.faults
                check(faults)
                done += 1
                context.progress(done, total)
                if time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
                    cache.save()
                    saved_at = time.monotonic()
    finally:
        cache.save()


def _jobs(images: ImageTable, rows: np.ndarray, settings: ShardSettings, batch: int) -> Iterator[HashJob]:
    for number, table in enumerate(images.batches(rows, batch)):
        items, how = tuple(items_of(table)), settings.recipe
        yield HashJob(
            settings.store, settings.source, settings.folder, "", number, how, items, private=settings.private
        )
