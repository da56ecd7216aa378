"""Images that belong together (of one patient, of equal bytes, near duplicates), and leaks of them between splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ingest.image_table import TRAIN, ImageTable, mask, place_in
from tasks.ingest.near_duplicates import OTHER_LIMIT, near_pairs
from tasks.ingest.near_groups import NearGroups


@dataclass(frozen=True)
class PatientGroups:
    """Patients, and groups of them: patients that share a file's bytes are one group, and so are near duplicates.

    An image without a known patient counts as a patient of its own.
    """

    patients: pa.Array  # [P] text: `patient:...` or `image:...`
    patient: np.ndarray  # [N] place of each row's patient in `patients`
    group_of: np.ndarray  # [P] group of each patient
    num_groups: int

    @property
    def count(self) -> int:
        """How many patients."""
        return len(self.patients)

    @property
    def group(self) -> np.ndarray:
        """[N] group of each row."""
        return np.asarray(self.group_of[self.patient])

    def splits_of(self, patients: pa.Array, places: np.ndarray) -> np.ndarray:
        """[K] int8: split of each group, given that of some patients; val and test before train, -1 for none."""
        found = np.full(self.num_groups, -1, np.int8)
        at = place_in(patients, self.patients)
        known = at >= 0
        np.maximum.at(found, self.group_of[at[known]], places[known])
        return found


def group_patients(images: ImageTable, usable: np.ndarray, near: NearGroups | None = None) -> PatientGroups:
    """Group the patients of a table; equal bytes and near duplicates join those of usable rows alone."""
    encoded = images.patient_ids.dictionary_encode()
    patient = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    count = size = len(encoded.dictionary)
    # A node for each set of rows that belong together, and an edge from each of its patients to it.
    ends: list[np.ndarray] = []
    for set_of in (equal_bytes(images, usable), *([near.cluster] if near is not None else [])):
        shared = set_of >= 0
        if shared.any():
            ends.append(np.stack([patient[shared], size + set_of[shared]]))
            size += int(set_of.max()) + 1
    if not ends:
        return PatientGroups(encoded.dictionary, patient, np.arange(count), count)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from_, to = np.concatenate(ends, axis=1)
    edges = coo_array((np.ones(len(to), np.int8), (from_, to)), (size, size))
    _, component = connected_components(edges, directed=False)
    numbers, group_of = np.unique(component[:count], return_inverse=True)
    return PatientGroups(encoded.dictionary, patient, group_of, len(numbers))


def equal_bytes(images: ImageTable, rows: np.ndarray) -> np.ndarray:
    """[N] int64: number of the group of equal files that a row is in; -1 where its bytes are its own."""
    groups = np.full(len(images), -1, np.int64)
    at = np.flatnonzero(rows & ~images.where("source_sha256", ""))
    if not len(at):
        return groups
    codes = images.text("source_sha256").take(pa.array(at)).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    several = np.bincount(codes)[codes] > 1
    groups[at[several]] = np.unique(codes[several], return_inverse=True)[1]
    return groups


def contradictions(images: ImageTable, groups: np.ndarray | None = None) -> np.ndarray:
    """[N] bool: usable rows of equal bytes that are labelled differently; `groups`: `equal_bytes` of labelled rows."""
    found = np.zeros(len(images), bool)
    if groups is None:
        groups = equal_bytes(images, images.usable & images.labelled)
    rows = np.flatnonzero(groups >= 0)
    if len(rows):
        labels = images.numbers("label")[rows, None] if images.labels is None else images.labels[rows]
        distinct = np.unique(np.column_stack([groups[rows], labels]), axis=0)[:, 0]
        found[rows] = (np.bincount(distinct) > 1)[groups[rows]]
    return found


def refuse_contradictions(images: ImageTable) -> None:
    """Quarantine files of equal bytes that are labelled differently: which label is right is not known."""
    groups = equal_bytes(images, images.usable & images.labelled)
    bad = np.flatnonzero(contradictions(images, groups))
    if not len(bad):
        return
    shown = images.display_names.take(pa.array(bad)).to_pylist()
    of_group: dict[int, list[str]] = {}
    for group, name in zip(groups[bad].tolist(), shown, strict=True):
        of_group.setdefault(group, []).append(name)
    reasons = []
    for group, name in zip(groups[bad].tolist(), shown, strict=True):
        others = [other for other in of_group[group] if other != name]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        reasons.append(f"the same bytes as {others[0]}{more}, but labelled differently")
    refused = np.zeros(len(images), bool)
    refused[bad] = True
    images.quarantine(refused, pa.array(reasons))


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


def mark_leaks(images: ImageTable, hashes: pa.Table | None = None, limit: int = OTHER_LIMIT) -> Leaks:
    """Set `leak` on val and test rows whose patient, bytes or near twin stands in train too.

    Args:
        hashes: columns key and phash of the stored images.
        limit: most bits in which the hashes of near twins differ.
    """
    usable, split = images.usable, images.numbers("split")
    train, held = usable & (split == TRAIN), usable & (split > TRAIN)
    by_patient = held & _shared(images.text("patient"), train)
    by_bytes = held & _shared(images.text("source_sha256"), train)
    near = held & _near(images, train, held, hashes, limit) if hashes is not None else np.zeros(len(images), bool)
    leak = by_patient | by_bytes | near
    images.numbers("leak")[:] = leak
    return Leaks(*(int(rows.sum()) for rows in (leak, by_patient, by_bytes, near)))


def _shared(values: pa.Array, among: np.ndarray) -> np.ndarray:
    known = values.filter(pa.array(among)).unique()
    return mask(pc.and_(pc.is_in(values, value_set=known), pc.not_equal(values, "")))


def _near(images: ImageTable, train: np.ndarray, held: np.ndarray, hashes: pa.Table, limit: int) -> np.ndarray:
    found = np.zeros(len(images), bool)
    at = place_in(hashes["key"].combine_chunks(), images.text("key"))
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
