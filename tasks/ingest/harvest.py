"""What the shards of a run turned out to hold, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.storage.manifest import Output, Quarantined
from infra.storage.stage_cache import UnitRecord
from tasks.data.catalog import INDEX
from tasks.ingest.parent import Parent
from tasks.ingest.plan import ShardPlan
from tasks.ingest.roll import Roll, as_text, list_column, place_in
from tasks.ingest.shard import ROW

ROWS = pa.schema([*(INDEX.field(n) for n in ROW if n in INDEX.names), ("width", pa.int32()), ("height", pa.int32())])


@dataclass(frozen=True)
class Reaped:
    """One shard."""

    output: Output | None  # None where no image could be kept
    rows: pa.Table  # schema ROWS, in shard order
    quarantine: tuple[Quarantined, ...]
    cropped: int
    made: bool  # now, not in an earlier run


class Harvest:
    """Shards by the key of their unit."""

    def __init__(self) -> None:
        self._of: dict[str, Reaped] = {}
        self.faults: list[str] = []

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, key: str) -> bool:
        return key in self._of

    def __getitem__(self, key: str) -> Reaped:
        return self._of[key]

    def add(self, record: UnitRecord, *, made: bool = True) -> None:
        """Take up a record."""
        columns = dict(zip(ROW, zip(*record.facts["rows"], strict=True), strict=True)) if record.facts["rows"] else {}
        columns["phash"] = tuple(bytes.fromhex(text) for text in columns.get("phash", ()))
        rows = pa.table([pa.array(columns.get(n, ()), ROWS.field(n).type) for n in ROWS.names], schema=ROWS)
        output = record.outputs[0] if record.outputs else None
        self._of[record.key] = Reaped(output, rows, record.quarantine, record.facts["cropped"], made)
        self.faults += [f"{q.source}: {q.reason}" for q in record.quarantine]


@dataclass(frozen=True)
class Results:
    """A plan that was carried out, in the plan's order; shards that kept no image are left out."""

    outputs: list[Output]
    index: pa.Table  # the parent's index and the new shards' rows after it
    kept: int  # shards stored
    made: int  # of these, how many now
    cropped: int  # images


def results_of(plan: ShardPlan, keys: list[str], harvest: Harvest, roll: Roll, parent: Parent) -> Results:
    """Put the harvest in order, and write sizes and faults into the roll.

    Args:
        keys: of the plan's jobs, in order.
    """
    reaped = [harvest[key] for key in keys]
    _refuse(roll, [fault for shard in reaped for fault in shard.quarantine])
    stored = [shard for shard in reaped if shard.output is not None]
    rows = pa.concat_tables([ROWS.empty_table(), *(shard.rows for shard in stored)]).combine_chunks()
    at = place_in(as_text(rows["key"]), roll.text("key"))
    for name in ("width", "height"):
        roll.numbers(name)[at] = rows[name].to_numpy()
    lengths = [len(shard.rows) for shard in stored]
    start = len(parent.shards)
    fresh = pa.table(
        {
            **{n: rows[n] for n in ROWS.names if n in INDEX.names},
            "shard": np.repeat(np.arange(start, start + len(stored)), lengths),
            "row": np.concatenate([np.arange(0), *(np.arange(n) for n in lengths)]),
            "source_sha256": roll.text("source_sha256").take(pa.array(at)),
            "label": pa.array(roll.numbers("label")[at]),
            "labels": list_column(None if roll.labels is None else roll.labels[at], len(at)),
        }
    )
    index = pa.concat_tables([parent.index.select(INDEX.names).cast(INDEX), fresh.select(INDEX.names).cast(INDEX)])
    return Results(
        outputs=[shard.output for shard in stored if shard.output is not None],
        index=index,
        kept=len(stored),
        made=sum(shard.made for shard in stored),
        cropped=sum(shard.cropped for shard in stored),
    )


def _refuse(roll: Roll, faults: list[Quarantined]) -> None:
    if not faults:
        return
    reason = {fault.source: fault.reason for fault in faults}
    at = np.flatnonzero(place_in(roll.text("key"), pa.array(list(reason))) >= 0)
    rows = np.zeros(len(roll), bool)
    rows[at] = True
    roll.refuse(rows, pa.array([reason[roll.text("key")[int(i)].as_py()] for i in at]))
