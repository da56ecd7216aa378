"""The manifest that an incremental ingest goes on from, and the one mutable name that points at it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from infra.digest import canonical_json
from infra.manifest import Manifest, Output, manifest_name
from infra.store import MissingObjectError, Store
from tasks.catalog import INDEX, OK, from_parquet


@dataclass(frozen=True)
class Parent:
    """What an earlier ingest stored; the empty one when there was none."""

    manifest: Manifest | None = None
    catalog: dict[str, dict[str, Any]] = field(default_factory=dict)  # key to the catalog's row
    index: pa.Table = field(default_factory=INDEX.empty_table)

    @classmethod
    def load(cls, store: Store, manifest: Manifest | None) -> Parent:
        """Read its catalog and index; MissingObjectError when one of them is gone."""
        if manifest is None:
            return cls()
        catalog = from_parquet(store.get(manifest.output(kind="catalog").name))
        index = from_parquet(store.get(manifest.output(kind="index").name))
        return cls(manifest, {row["key"]: row for row in catalog.to_pylist()}, index)

    @property
    def digest(self) -> str:
        """Digest of the manifest, "" for none."""
        return self.manifest.digest if self.manifest else ""

    @property
    def shards(self) -> list[Output]:
        """Its shards in order."""
        return self.manifest.outputs_where(kind="shard") if self.manifest else []

    @cached_property
    def stored(self) -> frozenset[str]:
        """Keys that lie in its shards."""
        return frozenset(self.index["key"].to_pylist())

    @cached_property
    def people(self) -> dict[str, str]:
        """Person to split; val and test win where an official split made a person straddle."""
        found: dict[str, str] = {}
        for row in self.catalog.values():
            if row["status"] == OK:
                person = f"patient:{row['patient']}" if row["patient"] else f"image:{row['key']}"
                if found.get(person, "train") == "train":
                    found[person] = row["split"]
        return found

    @property
    def keys_by_source(self) -> dict[str, str]:
        """Path to key, where paths are kept."""
        return {row["source"]: key for key, row in self.catalog.items() if row["source"]}


def read_head(store: Store, title: str) -> Manifest | None:
    """The corpus's newest manifest, or None when it was never ingested."""
    try:
        head = json.loads(store.get(f"heads/{title}"))
        return Manifest.from_bytes(store.get(manifest_name(head["stage"], head["key"])))
    except MissingObjectError:
        return None


def write_head(store: Store, title: str, manifest: Manifest) -> None:
    """Point the corpus's head at a committed manifest."""
    head = {"stage": manifest.stage, "key": manifest.key, "digest": manifest.digest}
    store.put(f"heads/{title}", canonical_json(head))


def write_info(store: Store, manifest: Manifest, folder: str) -> None:
    """timm's `_info.json` beside the shards: derived from the manifest, rewritten when it differs."""
    data = canonical_json({"splits": _splits(manifest)})
    name = f"{folder}/_info.json"
    try:
        if store.get(name) == data:
            return
    except MissingObjectError:
        pass
    store.put(name, data)


def _splits(manifest: Manifest) -> Mapping[str, Any]:
    # Without alt_label timm reads nothing and says nothing; it drops samples whose label is -1.
    label = "labels" if manifest.facts["task"] == "multilabel" else "label"
    splits: dict[str, Any] = {}
    for shard in manifest.outputs_where(kind="shard"):
        name = str(shard.meta["split"])
        split = splits.setdefault(
            name, {"name": name, "num_samples": 0, "filenames": [], "shard_lengths": [], "alt_label": label}
        )
        split["num_samples"] += shard.samples
        split["filenames"].append(shard.name.rpartition("/")[2])
        split["shard_lengths"].append(shard.samples)
    return splits
