"""Near duplicates of a listed corpus: whether any are looked for, and with which hashes."""

from __future__ import annotations

import numpy as np

from infra.storage.store import Store
from tasks.ingest.corpus_listing import ListedCorpus
from tasks.ingest.hash_cache import HashCache
from tasks.ingest.hash_images import hash_rows
from tasks.ingest.image_table import ImageTable
from tasks.ingest.ingest_plan import Check, ShardSettings
from tasks.ingest.near_groups import NearGroups, find_near_groups, grouping_limit, new_without_patient, stored_rows
from tasks.ingest.parent import Parent
from tasks.ingest.sample_bits import known_bits
from tasks.pipeline.context import Context
from tasks.spec import IngestSection


def limit_for(listed: ListedCorpus, parent: Parent) -> int | None:
    """The limit of near duplicates that an ingest keeps together; None where no image could be concerned.

    It is known before any picture is read, and enters the key.
    """
    scan, images = listed.scanned.scan, listed.images
    if not new_without_patient(images, stored_rows(images, parent)).any():
        return None
    return grouping_limit(listed.scanned.corpus.split, scan.official, scan.modality)


def group_near(
    context: Context,
    listed: ListedCorpus,
    parent: Parent,
    section: IngestSection,
    limit: int,
    images: ImageTable,
    new: np.ndarray,
    check: Check,
) -> NearGroups:
    """Near duplicates among new images; pictures whose hash is not known are read on the cluster.

    Args:
        images: of the corpus; `new` [N] bool are those to group.
        check: called with messages on images that cannot be read; raises when they are too many.
    """
    cache, settings = _cache(context.store, listed, parent, section)
    rows = np.flatnonzero(new)
    hash_rows(context, listed, images, rows, cache, settings, batch=section.shard_size, check=check)
    return find_near_groups(images, new, parent, cache.get, limit)


def group_known(
    store: Store,
    listed: ListedCorpus,
    parent: Parent,
    section: IngestSection,
    limit: int,
    images: ImageTable,
    new: np.ndarray,
    check: Check,
) -> NearGroups:
    """Like `group_near`, of pictures whose hash is known; reads none and writes nothing."""
    cache, _ = _cache(store, listed, parent, section)
    return find_near_groups(images, new, parent, cache.get, limit)


def _cache(
    store: Store, listed: ListedCorpus, parent: Parent, section: IngestSection
) -> tuple[HashCache, ShardSettings]:
    corpus = listed.scanned.corpus
    settings = ShardSettings.of(listed, store.url, known_bits(section, parent.manifest))
    cache = HashCache(store, corpus.title, settings.recipe, private=corpus.private)
    cache.load()
    return cache, settings
