"""Erasures that are not finished, and records of erasures that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from infra.errors import CorruptError, StillroomError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.catalog import table_of
from tasks.data.tombstones import FOLDER, PENDING, Tombstones
from tasks.ingest.shard import STAGE as INGEST
from tasks.maintenance.store_contents import StoreContents

_AGAIN = "start stillroom forget STORE, which goes on with it"


def erasure_defects(store: Store, contents: StoreContents) -> Iterator[tuple[str, str]]:
    """Objects of a store that are not as erasures should have left them, and why."""
    names = contents.under(FOLDER)
    for title in sorted({name.removeprefix(FOLDER).rpartition("/")[0] for name in names}):
        pending = f"{FOLDER}{title}/{PENDING}"
        if pending in contents.sizes:
            yield pending, f"an erasure was interrupted; {_AGAIN}"
        try:
            tombstones = Tombstones.read(store, title)
        except CorruptError as error:
            name, _, why = str(error).partition(": ")
            yield name, why
            continue
        yield from _left(store, contents, title, tombstones)


def _left(store: Store, contents: StoreContents, title: str, tombstones: Tombstones) -> Iterator[tuple[str, str]]:
    """Manifests of the corpus that still have erased images."""
    for summary in contents.manifests.values():
        if summary.stage != INGEST or summary.corpus != title:
            continue
        # A catalog that is lost or damaged is a defect of its own.
        with suppress(StillroomError, OSError):
            manifest = Manifest.from_bytes(store.get(summary.name), summary.name)
            count = int(tombstones.matches(table_of(store, manifest, "catalog")).sum())
            if count:
                yield summary.name, f"{count} images that were erased are in its catalog; {_AGAIN}"
