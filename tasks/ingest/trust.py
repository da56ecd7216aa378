"""What an image may be trusted for: equal files that contradict each other, and leaks between splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ingest.near import near_pairs
from tasks.ingest.people import equal_bytes
from tasks.ingest.phash import OTHER_LIMIT
from tasks.ingest.roll import Roll, mask, place_in
from tasks.ingest.splits import TRAIN


def refuse_contradictions(roll: Roll) -> None:
    """Quarantine files of equal bytes that are labelled differently: which label is right nobody can tell."""
    groups = equal_bytes(roll, roll.usable & roll.labelled)
    rows = np.flatnonzero(groups >= 0)
    if not len(rows):
        return
    labels = roll.numbers("label")[rows, None] if roll.labels is None else roll.labels[rows]
    distinct = np.unique(np.column_stack([groups[rows], labels]), axis=0)[:, 0]
    wrong = np.bincount(distinct) > 1
    bad = rows[wrong[groups[rows]]]
    if not len(bad):
        return
    shown = roll.shown.take(pa.array(bad)).to_pylist()
    of_group: dict[int, list[str]] = {}
    for group, name in zip(groups[bad].tolist(), shown, strict=True):
        of_group.setdefault(group, []).append(name)
    reasons = []
    for group, name in zip(groups[bad].tolist(), shown, strict=True):
        others = [other for other in of_group[group] if other != name]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        reasons.append(f"the same bytes as {others[0]}{more}, but labelled differently")
    refused = np.zeros(len(roll), bool)
    refused[bad] = True
    roll.refuse(refused, pa.array(reasons))


@dataclass(frozen=True)
class Leaks:
    """How many images of val and test also stand in train, by what they share; one image may share more."""

    images: int
    patient: int
    bytes: int
    near: int

    def to_json(self) -> dict[str, int]:
        """For the manifest's facts."""
        return {"patient": self.patient, "bytes": self.bytes, "near": self.near}


def mark_leaks(roll: Roll, hashes: pa.Table | None = None, limit: int = OTHER_LIMIT) -> Leaks:
    """Set `leak` on val and test rows whose patient, bytes or near twin stands in train too.

    Args:
        hashes: columns key and phash of the stored images.
        limit: most bits in which the hashes of near twins differ.
    """
    usable, split = roll.usable, roll.numbers("split")
    train, held = usable & (split == TRAIN), usable & (split > TRAIN)
    by_patient = held & _shared(roll.text("patient"), train)
    by_bytes = held & _shared(roll.text("source_sha256"), train)
    near = held & _near(roll, train, held, hashes, limit) if hashes is not None else np.zeros(len(roll), bool)
    leak = by_patient | by_bytes | near
    roll.numbers("leak")[:] = leak
    return Leaks(*(int(rows.sum()) for rows in (leak, by_patient, by_bytes, near)))


def _shared(values: pa.Array, among: np.ndarray) -> np.ndarray:
    known = values.filter(pa.array(among)).unique()
    return mask(pc.and_(pc.is_in(values, value_set=known), pc.not_equal(values, "")))


def _near(roll: Roll, train: np.ndarray, held: np.ndarray, hashes: pa.Table, limit: int) -> np.ndarray:
    found = np.zeros(len(roll), bool)
    at = place_in(hashes["key"].combine_chunks(), roll.text("key"))
    here = at >= 0
    rows = at[here]
    rows_known = train[rows] | held[rows]
    rows = rows[rows_known]
    if not len(rows):
        return found
    column = hashes["phash"].combine_chunks().filter(pa.array(here)).filter(pa.array(rows_known))
    bits = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(rows), -1)
    pairs = near_pairs(bits, held[rows].astype(np.int64), limit)
    twins = rows[pairs.reshape(-1)]
    found[twins[held[twins]]] = True
    return found
