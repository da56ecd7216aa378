"""Results of shard jobs, and what they add to index, catalog and manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.storage.manifest import Output, Quarantined
from infra.storage.stage_cache import UnitRecord
from tasks.data.catalog import INDEX
from tasks.ingest.image_quality import MEASURES, scores
from tasks.ingest.image_table import ImageTable, as_text, list_column, place_in
from tasks.ingest.ingest_plan import ShardPlan
from tasks.ingest.parent import Parent
from tasks.ingest.shard import ROW, SEVERAL

ROWS = pa.schema(
    [
        *(INDEX.field(n) for n in ROW if n in INDEX.names),
        ("width", pa.int32()),
        ("height", pa.int32()),
        *((n, pa.float64()) for n in MEASURES),  # NaN in records of earlier releases
        ("overlay", pa.bool_()),  # null in those, and where it was not looked for
    ]
)


@dataclass(frozen=True)
class ShardResult:
    """One shard."""

    output: Output | None  # None where no image could be stored
    rows: pa.Table  # schema ROWS, in shard order
    quarantine: tuple[Quarantined, ...]
    cropped: int
    made: bool  # now; False: found as made by an earlier run
    several: int = 0  # images whose sources have more pages or frames
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by key, that headers tell
    deepest: tuple[int, str] | None = None  # bits that samples of more than 8 need, and the key that needs most


class ShardResults:
    """Results by the key of their unit; `faults` are messages on quarantined images."""

    def __init__(self) -> None:
        self._of: dict[str, ShardResult] = {}
        self.faults: list[str] = []

    @property
    def images_made(self) -> int:
        """Images of the shards that were made now."""
        return sum(len(result.rows) for result in self._of.values() if result.made)

    @property
    def deepest(self) -> tuple[int, str] | None:
        """The most bits that deep samples need, and the key of an image that needs them; None where all have 8."""
        return max((r.deepest for r in self._of.values() if r.deepest is not None), default=None)

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, key: str) -> bool:
        return key in self._of

    def __getitem__(self, key: str) -> ShardResult:
        return self._of[key]

    def replace(self, key: str, result: ShardResult) -> None:
        """Take another result of a shard, such as one made with other bits in use."""
        self._of[key] = result

    def add(self, record: UnitRecord, *, made: bool = True) -> None:
        """Add the record of a shard."""
        columns = dict(zip(ROW, zip(*record.facts["rows"], strict=True), strict=True)) if record.facts["rows"] else {}
        columns["phash"] = tuple(bytes.fromhex(text) for text in columns.get("phash", ()))
        values = record.facts.get("measures") or [[np.nan] * len(MEASURES)] * len(record.facts["rows"])
        columns |= dict(zip(MEASURES, np.array(values, float).reshape(-1, len(MEASURES)).T, strict=True))
        columns["overlay"] = tuple(record.facts.get("overlays") or [None] * len(record.facts["rows"]))
        rows = pa.table([pa.array(columns.get(n, ()), ROWS.field(n).type) for n in ROWS.names], schema=ROWS)
        output = record.outputs[0] if record.outputs else None
        told = record.facts.get("deepest")
        deepest = (int(told[0]), str(told[1])) if told else None
        cropped, several = record.facts["cropped"], record.facts.get(SEVERAL, 0)
        attributes = record.facts.get("attributes", {})
        self._of[record.key] = ShardResult(output, rows, record.quarantine, cropped, made, several, attributes, deepest)
        self.faults += [f"{q.source}: {q.reason}" for q in record.quarantine]


@dataclass(frozen=True)
class NewShards:
    """What the jobs of a plan made, in the plan's order; shards without an image are left out."""

    outputs: list[Output]
    index: pa.Table  # the parent's index and the new shards' rows after it
    stored: int  # shards
    made: int  # of these, how many now
    cropped: int  # images
    several: int  # images whose sources have more pages or frames


def collect_new_shards(
    plan: ShardPlan, keys: list[str], results: ShardResults, images: ImageTable, parent: Parent, modality: str | None
) -> NewShards:
    """Put results in the plan's order, and write sizes, quality, overlays and faults into the image table.

    Args:
        keys: of the plan's jobs, in order.
        modality: kind of image, by which quality is scored; None: neither quality nor overlays count.
    """
    done = [results[key] for key in keys]
    _quarantine(images, [fault for shard in done for fault in shard.quarantine])
    stored = [shard for shard in done if shard.output is not None]
    rows = pa.concat_tables([ROWS.empty_table(), *(shard.rows for shard in stored)]).combine_chunks()
    at = place_in(as_text(rows["key"]), images.text("key"))
    for name in ("width", "height"):
        images.numbers(name)[at] = rows[name].to_numpy()
    if modality is not None:
        images.numbers("quality")[at] = scores(np.stack([rows[n].to_numpy() for n in MEASURES], axis=1), modality)
        images.numbers("overlay")[at] = pc.fill_null(rows["overlay"].cast(pa.int8()), -1).to_numpy()
    _set_attributes(images, {key: own for shard in stored for key, own in shard.attributes.items()})
    lengths = [len(shard.rows) for shard in stored]
    start = len(parent.shards)
    fresh = pa.table(
        {
            **{n: rows[n] for n in ROWS.names if n in INDEX.names},
            "shard": np.repeat(np.arange(start, start + len(stored)), lengths),
            "row": np.concatenate([np.arange(0), *(np.arange(n) for n in lengths)]),
            "source_sha256": images.text("source_sha256").take(pa.array(at)),
            "label": pa.array(images.numbers("label")[at]),
            "labels": list_column(None if images.labels is None else images.labels[at], len(at)),
        }
    )
    index = pa.concat_tables([parent.index.select(INDEX.names).cast(INDEX), fresh.select(INDEX.names).cast(INDEX)])
    return NewShards(
        outputs=[shard.output for shard in stored if shard.output is not None],
        index=index,
        stored=len(stored),
        made=sum(shard.made for shard in stored),
        cropped=sum(shard.cropped for shard in stored),
        several=sum(shard.several for shard in stored),
    )


def _set_attributes(images: ImageTable, found: Mapping[str, Mapping[str, str]]) -> None:
    """Fill in what headers tell where the corpus's own tables say nothing."""
    if not found:
        return
    at = place_in(pa.array(list(found)), images.text("key"))
    for name in sorted({name for own in found.values() for name in own}):
        values = dict(zip(at.tolist(), (own.get(name, "") for own in found.values()), strict=True))
        rows = images.where(name, "")
        rows &= np.isin(np.arange(len(images)), [row for row, value in values.items() if value])
        images.set_text(name, rows, pa.array([values[row] for row in np.flatnonzero(rows).tolist()], pa.string()))


def _quarantine(images: ImageTable, faults: list[Quarantined]) -> None:
    if not faults:
        return
    reason = {fault.source: fault.reason for fault in faults}
    at = np.flatnonzero(place_in(images.text("key"), pa.array(list(reason))) >= 0)
    rows = np.zeros(len(images), bool)
    rows[at] = True
    images.quarantine(rows, pa.array([reason[images.text("key")[int(i)].as_py()] for i in at]))
