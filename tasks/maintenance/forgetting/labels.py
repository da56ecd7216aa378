"""Soft labels of rewritten shards: those of the images that stay, under the names that the next run looks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from infra.errors import CorruptError
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import MissingObjectError, Store
from tasks.data.soft_labels import write_soft_labels
from tasks.label.job import STAGE, LabelIdentity
from tasks.label.kept_rows import FOLDER, KeptRows, keep_rows, rows_of_record, without_rows
from tasks.maintenance.forgetting.rewritten import RewrittenShard
from tasks.maintenance.store_contents import UNITS, StoreContents, read_documents

FOLDERS = (f"{UNITS}{STAGE}/", f"{UNITS}{FOLDER}/")
"""Records of units that are labelled, and of those of which some rows are known."""


@dataclass
class KeptLabels:
    """How many predictions of rewritten shards stay, and how many the next run makes again."""

    kept: int = 0
    again: int = 0


def label_records(store: Store, contents: StoreContents) -> Iterator[tuple[str, UnitRecord]]:
    """All whole records of label units, by name."""
    names = [name for folder in FOLDERS for name in contents.under(folder)]
    for name, record in read_documents(store, names, UnitRecord.from_bytes).items():
        if isinstance(record, UnitRecord) and record.outputs:
            yield name, record


def carry_labels(cache: StageCache, contents: StoreContents, shards: Mapping[str, RewrittenShard]) -> KeptLabels:
    """Store what stays of the soft labels of rewritten shards.

    A row that was mixed with an erased one has no label any more; the unit is then stored in part, and the next run
    predicts what is missing. Labels that are damaged, or of releases whose records do not tell what they are of, are
    left out: the next run makes them again.

    Args:
        shards: by the id of the shard before.
    """
    done = KeptLabels()
    for _, record in label_records(cache.store, contents):
        identity = LabelIdentity.of_record(record)
        shard = shards.get(identity.shard) if identity is not None else None
        if identity is None or identity.key != record.key or shard is None or shard.after is None:
            continue
        try:
            before = rows_of_record(cache.store, record)
        except (CorruptError, MissingObjectError):
            continue
        if len(before.known) != len(shard.stay):
            continue
        found = without_rows(before, shard.keys, shard.stay)
        done.kept += int(found.known.sum())
        done.again += int((~found.known).sum())
        _store(cache, identity.of_rows(shard.after.id, shard.stay.nonzero()[0]), record, found)
    return done


def _store(cache: StageCache, identity: LabelIdentity, record: UnitRecord, found: KeptRows) -> None:
    name = record.outputs[0].name.rpartition("/")[0] + f"/{identity.key[:16]}"
    if found.soft.partner is not None or not found.known.all():
        # Which rows still have the partner that they were labelled with is found out by who labels.
        keep_rows(cache, identity, f"{name}-kept-{{sha8}}.safetensors", found)
        return
    output = cache.put_object(
        f"{name}-{{sha8}}.safetensors",
        write_soft_labels(found.soft),
        id=identity.key,
        unit=identity.key,
        samples=len(found.known),
        meta={"invalid": found.soft.invalid},
    )
    facts = {**identity.facts, **({"engine": found.engine} if found.engine else {})}
    cache.record(STAGE, UnitRecord(identity.key, (output,), found.quarantine, facts))
