"""timm's `_info.json` beside the shards: derived from a manifest, so it can be held against it and made again."""

from __future__ import annotations

from collections.abc import Iterator

from infra.storage.manifest import Manifest
from infra.storage.store import MissingObjectError, Store
from tasks.ingest.parent import info_bytes
from tasks.maintenance.holdings import Dossier, Holdings
from tasks.maintenance.verdict import BYTES, MISSING

INFO = "_info.json"


def info_defects(store: Store, held: Holdings) -> Iterator[tuple[str, str, str]]:
    """(name, kind, detail) of every `_info.json` that is missing beside a head's shards, or not as some manifest says.

    One in a folder that no manifest names is a stray, as everything in that folder is.
    """
    heads = {folder: m for m in held.current.values() if (folder := shard_folder_of(m))}
    there = {name.rpartition("/")[0] for name in held.sizes if name.endswith(f"/{INFO}")}
    accounted = {shard_folder_of(m) for m in held.manifests.values()}
    for folder in sorted((there & accounted) | set(heads)):
        name = f"{folder}/{INFO}"
        if folder not in there:
            yield name, MISSING, "not there"
            continue
        # A run writes the file before it moves the head: beside a head, what its child says is right too.
        head = heads.get(folder)
        own = [m for m in held.manifests.values() if shard_folder_of(m) == folder]
        right = [m for m in own if head is None or head.key in (m.key, m.parent)]
        try:
            data = store.get(name)
        except MissingObjectError:
            yield name, MISSING, "not there"
            continue
        if not any(derived(store, manifest) == data for manifest in right):
            yield name, BYTES, "is not what the manifest of its shards says"


def shard_folder_of(manifest: Dossier) -> str:
    """Folder of the newest shards of an ingest manifest; "" when it has none."""
    shards = [p.name for p in manifest.outputs if p.kind == "shard"]
    return shards[-1].rpartition("/")[0] if shards else ""


def derived(store: Store, manifest: Dossier) -> bytes:
    """What `_info.json` should hold."""
    return info_bytes(Manifest.from_bytes(store.get(manifest.name), manifest.name))
