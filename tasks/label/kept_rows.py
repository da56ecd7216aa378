"""Rows of a unit that are known before it is labelled: what an erasure left of the labels of a shard.

`stillroom forget` writes shards anew without the erased images. Labels of the others stay as they are; where views are
mixed, a row whose partner was erased, or who gets another partner now, is labelled again with the next run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from infra.errors import CorruptError
from infra.storage.manifest import Quarantined
from infra.storage.stage_cache import StageCache, UnitRecord, read_output
from infra.storage.store import Store
from models.augmentation.draws import NO_PARTNER
from tasks.data.soft_labels import SoftLabels, read_soft_labels, write_soft_labels
from tasks.label.job import LabelIdentity

FOLDER = "label-kept"
"""Folder of the records, below `units/`."""

_KNOWN = "known"


@dataclass(frozen=True)
class KeptRows:
    """What is known of a unit of N rows."""

    soft: SoftLabels
    known: np.ndarray  # [N] bool; the labels of other rows were erased
    quarantine: tuple[Quarantined, ...] = ()  # of known rows
    engine: dict[str, Any] | None = None

    def still_known(self, partner: np.ndarray | None) -> np.ndarray:
        """Rows whose labels hold for these partners, bool [N].

        Args:
            partner: int32 [N] of the shard's rows; None where the view is not mixed.
        """
        if partner is None or self.soft.partner is None:
            return self.known if partner is self.soft.partner else np.zeros(len(self.known), bool)
        return np.asarray(self.known & (self.soft.partner == partner))

    def filled(self, soft: SoftLabels, known: np.ndarray) -> SoftLabels:
        """Other labels with those of the known rows in their place; partners are the others'."""

        def merged(own: np.ndarray, other: np.ndarray) -> np.ndarray:
            return np.where(known.reshape(-1, *(1,) * (own.ndim - 1)), own, other)

        features = soft.features
        if self.soft.features is not None:
            features = merged(self.soft.features, np.zeros_like(self.soft.features) if features is None else features)
        logits, valid = merged(self.soft.logits, soft.logits), merged(self.soft.valid, soft.valid)
        return SoftLabels(logits, valid, soft.partner, features)


def keep_rows(cache: StageCache, identity: LabelIdentity, name: str, kept: KeptRows) -> None:
    """Store what is known of a unit.

    Args:
        name: of the object, with a place for its digest.
    """
    key = identity.key
    tensors = {**load(write_soft_labels(kept.soft)), _KNOWN: kept.known}
    output = cache.put_object(name, save(tensors), id=f"{key}-kept", unit=key, samples=int(kept.known.sum()))
    facts = {**identity.facts, **({"engine": kept.engine} if kept.engine else {})}
    cache.record(FOLDER, UnitRecord(key, (output,), kept.quarantine, facts))


def units_with_kept_rows(store: Store) -> set[str]:
    """Keys of units of which some rows are known."""
    return {name.rpartition("/")[2].removesuffix(".json") for name in store.sizes(f"units/{FOLDER}/")}


def read_kept_rows(store: Store, keys: Iterable[str]) -> dict[str, KeptRows]:
    """What is known of some units, by key; a unit whose record or object is lost or damaged is left out."""
    found = {}
    for key, record in StageCache(store).recorded(FOLDER, keys).items():
        # It saves work and nothing else: where it is damaged the unit is labelled as a whole.
        with suppress(CorruptError):
            found[key] = rows_of_record(store, record)
    return found


def rows_of_record(store: Store, record: UnitRecord) -> KeptRows:
    """What a record holds, of a unit that is known in part or as a whole.

    Raises:
        CorruptError, MissingObjectError: its object is damaged or not there.
    """
    output = record.outputs[0]
    data = read_output(store, output)
    soft = read_soft_labels(data, output.name)
    known = load(data).get(_KNOWN, np.ones(len(soft.valid), bool))
    return KeptRows(soft, known, record.quarantine, record.facts.get("engine"))


def without_rows(kept: KeptRows, keys: np.ndarray, stay: np.ndarray) -> KeptRows:
    """What is known of a unit once some rows are gone.

    Args:
        keys: text [N].
        stay: bool [N].

    Returns:
        The rows that stay, [M]; those that were mixed with a row that goes are not known.
    """
    soft, rows = kept.soft, np.flatnonzero(stay)
    known, partner = kept.known[rows], None
    if soft.partner is not None:
        place = np.where(stay, np.cumsum(stay) - 1, NO_PARTNER).astype(np.int32)
        before = soft.partner[rows]
        mixed = before != NO_PARTNER
        partner = np.where(mixed, place[before], NO_PARTNER).astype(np.int32)
        known = known & (~mixed | (partner != NO_PARTNER))
    features = soft.features[rows] if soft.features is not None else None
    logits, valid = np.where(known[:, None], soft.logits[rows], 0), soft.valid[rows] & known
    if features is not None:
        features = np.where(known.reshape(-1, *(1,) * (features.ndim - 1)), features, 0)
    quarantine = quarantine_of_keys(kept.quarantine, set(keys[rows][known].tolist()))
    return KeptRows(SoftLabels(logits, valid, partner, features), known, quarantine, kept.engine)


def quarantine_of_keys(quarantine: Iterable[Quarantined], keys: Collection[str]) -> tuple[Quarantined, ...]:
    """Of samples that were kept out, those with these keys."""
    return tuple(each for each in quarantine if each.source in keys)
