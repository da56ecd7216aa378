"""The manifest that an incremental ingest goes on from, and the one mutable name that points at it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import canonical_json
from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output, manifest_name
from infra.storage.stage_cache import read_output
from infra.storage.store import MissingObjectError, Store
from tasks.data.catalog import CATALOG, INDEX, LEFT_OUT, OK, SPLITS, from_parquet, with_attributes
from tasks.ingest.image_table import ImageTable, as_text, mask, matrix, patient_ids_of, place_in, stored_texts

MIN_QUALITY = "min_quality"
"""Fact of an ingest manifest: `corpus.min_quality`, where it was set."""


@dataclass(frozen=True)
class Parent:
    """What an earlier ingest stored; the empty one when there was none."""

    manifest: Manifest | None = None
    catalog: pa.Table = field(default_factory=CATALOG.empty_table)
    index: pa.Table = field(default_factory=INDEX.empty_table)

    @classmethod
    def load(cls, store: Store, manifest: Manifest | None) -> Parent:
        """Read its catalog and index; MissingObjectError when one of them is gone."""
        if manifest is None:
            return cls()
        catalog = with_attributes(from_parquet(read_output(store, manifest.output(kind="catalog"))))
        index = from_parquet(read_output(store, manifest.output(kind="index")))
        return cls(manifest, catalog, index)

    @property
    def digest(self) -> str:
        """Digest of the manifest, "" for none."""
        return self.manifest.digest if self.manifest else ""

    @property
    def shards(self) -> list[Output]:
        """Its shards in order."""
        return self.manifest.outputs_where(kind="shard") if self.manifest else []

    @cached_property
    def keys(self) -> pa.Array:
        """Keys of its catalog, in order."""
        return as_text(self.catalog["key"])

    @cached_property
    def stored(self) -> np.ndarray:
        """[rows of the catalog] bool: lies in its shards."""
        return mask(pc.is_in(self.keys, value_set=as_text(self.index["key"])))

    @property
    def splits(self) -> np.ndarray:
        """[rows of the catalog] int8: place of the split in SPLITS, -1 for none."""
        return place_in(as_text(self.catalog["split"]), pa.array(SPLITS)).astype(np.int8)

    @property
    def min_quality(self) -> float | None:
        """Quality below which images counted as ungradable where nobody said."""
        found = self.manifest.facts.get(MIN_QUALITY) if self.manifest else None
        return None if found is None else float(found)

    @property
    def overlays(self) -> np.ndarray:
        """[rows of the catalog] int8: 1 with an overlay, 0 without, -1 where it is not known."""
        return np.asarray(pc.fill_null(self.catalog["overlay"].cast(pa.int8()), -1).to_numpy())

    @property
    def patient_splits(self) -> tuple[pa.Array, np.ndarray]:
        """Patient ids, and their split; val and test win where an official split put a patient into several."""
        rows = mask(pc.is_in(self.catalog["status"], value_set=pa.array([OK, LEFT_OUT])))
        patients = (
            patient_ids_of(as_text(self.catalog["patient"]), self.keys).filter(pa.array(rows)).dictionary_encode()
        )
        places = np.full(len(patients.dictionary), -1, np.int8)
        np.maximum.at(places, patients.indices.to_numpy(zero_copy_only=False), self.splits[rows])
        return patients.dictionary, places

    @property
    def keys_by_source(self) -> tuple[pa.Array, pa.Array]:
        """Paths and their keys, where paths are stored."""
        known = pc.not_equal(self.catalog["source"], "")
        return as_text(self.catalog["source"].filter(known)), as_text(self.catalog["key"].filter(known))

    def rows(self, chosen: np.ndarray) -> ImageTable:
        """Rows of the catalog as a table; their files are gone, so their paths are ""."""
        at = pa.array(np.flatnonzero(chosen))
        table = self.catalog.take(at)
        found = ImageTable.of(
            len(at),
            matrix(table["labels"]),
            label=table["label"].to_numpy(),
            split=self.splits[chosen],
            width=table["width"].to_numpy(),
            height=table["height"].to_numpy(),
            quality=table["quality"].to_numpy(),
            overlay=self.overlays[chosen],
            **stored_texts(table),
        )
        # What is left out is decided anew.
        left_out = found.where("status", LEFT_OUT)
        found.set_text("status", left_out, OK)
        found.set_text("reason", left_out, "")
        return found


def read_head(store: Store, title: str) -> Manifest | None:
    """The corpus's newest manifest, or None when it was never ingested.

    Raises:
        CorruptError: the head or its manifest is damaged.
    """
    place = f"{store.url}/heads/{title}"
    try:
        head = json.loads(store.get(f"heads/{title}"))
        name, digest = manifest_name(head["stage"], head["key"]), head["digest"]
    except MissingObjectError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{place} is damaged ({error}); run stillroom repair") from None
    try:
        manifest = Manifest.from_bytes(store.get(name), name)
    except MissingObjectError:
        return None
    if manifest.digest != digest:
        raise CorruptError(f"{place} names another manifest than lies at {name}; run stillroom repair")
    return manifest


def write_head(store: Store, title: str, manifest: Manifest) -> None:
    """Point the corpus's head at a committed manifest."""
    head = {"stage": manifest.stage, "key": manifest.key, "digest": manifest.digest}
    store.put(f"heads/{title}", canonical_json(head))


def write_info(store: Store, manifest: Manifest, folder: str) -> None:
    """timm's `_info.json` beside the shards: derived from the manifest, rewritten when it differs."""
    data = info_bytes(manifest)
    name = f"{folder}/_info.json"
    try:
        if store.get(name) == data:
            return
    except MissingObjectError:
        pass
    store.put(name, data)


def info_bytes(manifest: Manifest) -> bytes:
    """Content of the `_info.json` of a manifest's shards."""
    return canonical_json({"splits": _splits(manifest)})


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
