"""Which images go into which shard: settled before anything is decoded (DESIGN: Shard).

A plan is a Parquet file with one row group a shard, so that a million images are planned and handed out
shard by shard and never stand in memory as objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.digest import digest_of
from infra.errors import CorruptError
from infra.storage.manifest import Output
from tasks.data.catalog import SPLITS
from tasks.ingest.draft import Draft
from tasks.ingest.parent import Parent
from tasks.ingest.pixels import Recipe
from tasks.ingest.roll import place_in
from tasks.ingest.shard import Item, ShardJob
from tasks.ingest.survey import Survey

_KEPT = ("key", "path", "stamp", "source_sha256", "label", "labels")


@dataclass(frozen=True)
class Place:
    """Where the shards of a corpus come from and go to."""

    store: str
    source: str
    folder: str
    recipe: dict[str, Any]

    @classmethod
    def of(cls, survey: Survey, store: str) -> Place:
        """A folder a section, so that sizes and qualities never mix."""
        found = survey.found
        return cls(
            store, found.source.url, shard_folder(found.corpus.title, found.section), asdict(recipe_of(found.section))
        )

    def job(self, split: str, number: int, items: Iterable[Item], sha: str = "") -> ShardJob:
        """A shard's job."""
        return ShardJob(self.store, self.source, self.folder, split, number, self.recipe, tuple(items), sha)


def shard_folder(title: str, section: dict[str, object]) -> str:
    """Folder of the shards in the store."""
    return f"shards/{title}/{digest_of(section)[:8]}"


def recipe_of(section: Mapping[str, Any]) -> Recipe:
    """What becomes of an image, as a resolved section says."""
    return Recipe(**{name: value for name, value in section["ingest"].items() if name != "shard_size"})


class ShardPlan:
    """New shards, in order: runs of `shard_size` consecutive keys that no shard holds yet, one split each.

    Numbers go on from the parent's, so that its shards keep theirs.

    Args:
        folder: where the plan's file lies while it is carried out.
    """

    def __init__(self, plan: Draft, parent: Parent, place: Place, shard_size: int, folder: Path) -> None:
        self.place = place
        self._file = folder / "plan.parquet"
        self._shards: list[tuple[str, int]] = []
        split = plan.roll.numbers("split")[plan.new]
        writer = None
        for code, name in enumerate(SPLITS):
            number = 1 + max((int(o.meta["number"]) for o in parent.shards if o.meta["split"] == name), default=-1)
            for batch in plan.roll.batches(plan.new[split == code], shard_size):
                table = batch.select(_KEPT)
                writer = writer or pq.ParquetWriter(self._file, table.schema, compression="lz4")
                writer.write_table(table, row_group_size=shard_size)
                self._shards.append((name, number))
                number += 1
        if writer is not None:
            writer.close()

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[ShardJob]:
        if not self._shards:
            return
        with pq.ParquetFile(self._file) as file:
            for group, (split, number) in enumerate(self._shards):
                yield self.place.job(split, number, items_of(file.read_row_group(group)))


def items_of(table: pa.Table) -> list[Item]:
    """The items that rows with the columns key, path, stamp, source_sha256, label and labels stand for."""
    columns = [table[name].to_pylist() for name in _KEPT]
    return [
        Item(key, path, stamp, sha, label, tuple(labels) if labels is not None else None)
        for key, path, stamp, sha, label, labels in zip(*columns, strict=True)
    ]


def repair_jobs(
    missing: Iterable[Output], shards: list[Output], index: pa.Table, survey: Survey, place: Place
) -> Iterator[ShardJob]:
    """Jobs that make lost shards again, each as it was: from the index and the source files.

    Args:
        missing: the lost shards.
        shards: all shards of the manifest, in order.
        index: the manifest's index.

    Raises:
        CorruptError: a source file is no longer in the corpus.
    """
    number = {output.name: i for i, output in enumerate(shards)}
    roll = survey.roll
    for output in missing:
        rows = index.filter(pc.equal(index["shard"], number[output.name]))
        keys = rows["key"].combine_chunks()
        at = place_in(keys, roll.text("key"))
        there = (at >= 0) & roll.has_file[at]
        if not there.all():
            gone = np.flatnonzero(~there)
            raise CorruptError(
                f"{output.name} is lost, and the source file of {keys[int(gone[0])]} is no longer in the corpus "
                f"({len(gone)} such files); put them back, or ingest under another corpus.name"
            )
        found = pa.array(at)
        rows = rows.append_column("path", roll.text("path").take(found))
        rows = rows.append_column("stamp", roll.text("stamp").take(found))
        then = replace(place, folder=output.name.rpartition("/")[0])
        yield then.job(str(output.meta["split"]), int(output.meta["number"]), items_of(rows), output.sha256)
