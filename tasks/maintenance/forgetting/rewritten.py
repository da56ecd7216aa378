"""A corpus without the images that were erased: shards, index, catalog and manifest written anew."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import digest_of, unit_key
from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache, read_output
from tasks.data.catalog import INDEX
from tasks.ingest.corpus_tables import store_table
from tasks.ingest.image_table import ImageTable, mask
from tasks.ingest.leakage import mark_leaks
from tasks.ingest.near_duplicates import limit_of_facts
from tasks.ingest.parent import Parent
from tasks.ingest.sample_bits import known_bits
from tasks.ingest.shard import STAGE, VERSION, ShardItem, ShardJob, ShardWriter
from tasks.ingest.summary import counts_of, quarantine_of
from tasks.preprocessing.stored_image import recipe_of

ERASED = "an image that was erased"
"""In place of the name of an erased image in texts about others."""


@dataclass(frozen=True)
class RewrittenShard:
    """A shard that held erased images, and the one that has its other images."""

    before: Output
    keys: np.ndarray  # [rows of the shard before] text
    stay: np.ndarray  # [rows of the shard before] bool
    after: Output | None  # none where every image was erased


@dataclass
class RewrittenCorpus:
    """A new manifest, not committed yet, and what became of the shards."""

    manifest: Manifest
    shards: list[RewrittenShard] = field(default_factory=list)


def rewrite_corpus(cache: StageCache, manifest: Manifest, gone: Collection[str]) -> RewrittenCorpus:
    """Store what an ingest manifest holds, without some images.

    Args:
        gone: keys of rows of its catalog.

    Raises:
        CorruptError: a shard, its catalog or its index is damaged.
    """
    parent = Parent.load(cache.store, manifest)
    away = pa.array(sorted(gone))
    found = RewrittenCorpus(manifest)
    index_parts: list[pa.Table] = []
    outputs: list[Output] = []
    lost = mask(pc.is_in(parent.index["key"], value_set=away))
    number_of = parent.index["shard"].to_numpy()
    for number, before in enumerate(parent.shards):
        rows = np.flatnonzero(number_of == number)
        part, after = parent.index.take(pa.array(rows)), before
        if lost[rows].any():
            keys = part["key"].to_numpy(zero_copy_only=False)
            written, part = _rewrite_shard(cache, manifest, before, part, ~lost[rows])
            found.shards.append(RewrittenShard(before, keys, ~lost[rows], written))
            if written is None:
                continue
            after = written
        place = pa.array(np.full(len(part), len(outputs), np.int32))
        index_parts.append(part.set_column(part.schema.get_field_index("shard"), "shard", place))
        outputs.append(after)
    index = pa.concat_tables([INDEX.empty_table(), *(part.select(INDEX.names).cast(INDEX) for part in index_parts)])
    images = parent.rows(~mask(pc.is_in(parent.keys, value_set=away)))
    _unname(images, parent, away)
    leaks = mark_leaks(images, index, limit_of_facts(manifest.facts))
    title = str(manifest.facts["corpus"])
    tables = [
        store_table(cache, title, kind, table)[0] for kind, table in (("index", index), ("catalog", images.catalog()))
    ]
    names = _names(parent, away)
    inputs = [digest_of(["erased", manifest.digest, digest_of(sorted(gone))]), ""]
    found.manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=unit_key(STAGE, VERSION, inputs=inputs, section=manifest.section),
        inputs=inputs,
        section=manifest.section,
        outputs=[*outputs, *tables],
        quarantine=quarantine_of(images),
        facts={
            **manifest.facts,
            **counts_of(images, manifest.facts["classes"], leaks),
            "notes": [note for note in manifest.facts["notes"] if not any(name in note for name in names)],
            "parent": "",
            "retried": False,
        },
    )
    return found


def _rewrite_shard(
    cache: StageCache, manifest: Manifest, before: Output, rows: pa.Table, stay: np.ndarray
) -> tuple[Output | None, pa.Table]:
    """The same bytes as an ingest of the other images alone makes; the index's rows of it."""
    data = read_output(cache.store, before)
    rows = rows.filter(pa.array(stay))
    if not len(rows):
        return None, rows
    writer, offsets, items = ShardWriter(), [], []
    for row in rows.to_pylist():
        start = row["offset"]
        image = data[start : start + row["size"]]
        labels = tuple(row["labels"]) if row["labels"] is not None else None
        offset, _, crc = writer.add(row["key"], row["ext"], image, row["label"], labels)
        if crc != row["crc32"]:
            raise CorruptError(f"{before.name}: bytes of {row['key']} are not those ingested; run repair")
        offsets.append(offset)
        items.append(ShardItem(row["key"], "", "", row["source_sha256"], row["label"], labels))
    folder, split, number = before.name.rpartition("/")[0], str(before.meta["split"]), int(before.meta["number"])
    recipe = asdict(recipe_of(manifest.section))
    recipe["bits"] = known_bits(None, manifest) or recipe["bits"]
    job = ShardJob(cache.store.url, "", folder, split, number, recipe, tuple(items))
    name = f"{folder}/{split}-{number:05d}-{{sha8}}.tar"
    after = cache.put_object(name, writer.close(), samples=len(rows), unit=job.key, meta=dict(before.meta))
    at = rows.schema.get_field_index
    rows = rows.set_column(at("offset"), "offset", pa.array(offsets, pa.int64()))
    return after, rows.set_column(at("row"), "row", pa.array(np.arange(len(rows), dtype=np.int32)))


def _unname(images: ImageTable, parent: Parent, away: pa.Array) -> None:
    """Replace names of erased images in the reasons of others, such as in that of a file of equal bytes."""
    reasons = images.text("reason")
    for name in _names(parent, away):
        reasons = pc.replace_substring(reasons, name, ERASED)
    images.set_text("reason", np.ones(len(images), bool), reasons)


def _names(parent: Parent, away: pa.Array) -> list[str]:
    """Paths of the erased images, the longest first, and keys of those that have none."""
    rows = parent.catalog.filter(pc.is_in(parent.catalog["key"], value_set=away))
    names = pc.if_else(pc.equal(rows["source"], ""), rows["key"], rows["source"]).unique().to_pylist()
    return sorted(names, key=lambda name: (-len(name), name))
