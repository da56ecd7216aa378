"""Which images go into which shard: settled before anything is decoded (DESIGN: Shard)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.cache import UnitRecord
from infra.errors import CorruptError
from infra.manifest import Output
from tasks.catalog import INDEX, SPLITS
from tasks.ingest.entries import Entry
from tasks.ingest.parent import Parent
from tasks.ingest.pixels import EXTENSIONS
from tasks.ingest.shard import Item, ShardJob


@dataclass(frozen=True)
class Place:
    """Where the shards of a corpus come from and go to."""

    store: str
    root: Path
    folder: str
    recipe: dict[str, Any]

    def job(self, split: str, number: int, items: Iterable[Item], sha: str = "") -> ShardJob:
        """A shard's job."""
        return ShardJob(self.store, str(self.root), self.folder, split, number, self.recipe, tuple(items), sha)


def plan_shards(entries: Iterable[Entry], parent: Parent, place: Place, shard_size: int) -> list[ShardJob]:
    """Runs of `shard_size` consecutive keys that no shard holds yet, one split each, in order.

    Numbers go on from the parent's, so that its shards keep theirs.
    """
    new: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for entry in sorted(entries, key=lambda e: e.key):
        if entry.usable and entry.key not in parent.stored:
            new[entry.split].append(entry)
    jobs = []
    for split in SPLITS:
        number = 1 + max((int(o.meta["number"]) for o in parent.shards if o.meta["split"] == split), default=-1)
        for start in range(0, len(new[split]), shard_size):
            items = [
                Item(e.key, str(e.row.path), e.sha, e.row.label, e.row.labels)
                for e in new[split][start : start + shard_size]
            ]
            jobs.append(place.job(split, number, items))
            number += 1
    return jobs


def repair_jobs(
    missing: Iterable[Output], shards: list[Output], index: pa.Table, paths: dict[str, str], place: Place
) -> list[ShardJob]:
    """Jobs that make lost shards again, each as it was: from the index and the source files.

    Args:
        missing: the lost shards.
        shards: all shards of the manifest, in order.
        index: the manifest's index.
        paths: key to path below corpus.root.

    Raises:
        CorruptError: a source file is no longer in the corpus.
    """
    number = {output.name: i for i, output in enumerate(shards)}
    jobs = []
    for output in missing:
        rows = index.filter(pa.compute.equal(index["shard"], number[output.name])).to_pylist()
        gone = [row["key"] for row in rows if not paths.get(row["key"])]
        if gone:
            raise CorruptError(
                f"{output.name} is lost, and the source file of {gone[0]} is no longer in the corpus "
                f"({len(gone)} such files); put them back, or ingest under another corpus.name"
            )
        items = [
            Item(
                row["key"],
                paths[row["key"]],
                row["source_sha256"],
                row["label"],
                tuple(row["labels"]) if row["labels"] is not None else None,
            )
            for row in rows
        ]
        place_then = replace(place, folder=output.name.rpartition("/")[0])
        jobs.append(place_then.job(str(output.meta["split"]), int(output.meta["number"]), items, output.sha256))
    return jobs


def index_table(parent: Parent, made: list[tuple[ShardJob, UnitRecord]]) -> pa.Table:
    """The parent's index and the new shards' rows after it; `made` in manifest order, without empty ones."""
    rows = []
    for i, (job, record) in enumerate(made, start=len(parent.shards)):
        items = {item.key: item for item in job.items}
        ext = EXTENSIONS[job.recipe["encode"]]
        for position, (key, offset, size, crc, _, _) in enumerate(record.facts["rows"]):
            item = items[key]
            rows.append(
                {
                    "shard": i,
                    "row": position,
                    "key": key,
                    "ext": ext,
                    "offset": offset,
                    "size": size,
                    "crc32": crc,
                    "source_sha256": item.sha,
                    "label": item.label,
                    "labels": list(item.labels) if item.labels is not None else None,
                }
            )
    fresh = pa.Table.from_pylist(rows, schema=INDEX)
    return pa.concat_tables([parent.index.cast(INDEX), fresh]) if parent.manifest else fresh
