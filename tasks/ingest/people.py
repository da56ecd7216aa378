"""Who belongs together: images of one patient, and images of equal bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.ingest.roll import Roll, place_in


@dataclass(frozen=True)
class People:
    """Persons (patients, or images without one) and their kin: persons that share a file's bytes are one kin."""

    names: pa.Array  # [P] text: `patient:...` or `image:...`
    person: np.ndarray  # [N] place of each row's person in names
    kin_of: np.ndarray  # [P] kin of each person
    kins: int

    @property
    def count(self) -> int:
        """How many persons."""
        return len(self.names)

    @property
    def kin(self) -> np.ndarray:
        """[N] kin of each row."""
        return np.asarray(self.kin_of[self.person])

    def places(self, persons: pa.Array, places: np.ndarray) -> np.ndarray:
        """[K] int8: split of each kin, given that of some persons; val and test before train, -1 for none."""
        found = np.full(self.kins, -1, np.int8)
        at = place_in(persons, self.names)
        known = at >= 0
        np.maximum.at(found, self.kin_of[at[known]], places[known])
        return found


def people_of(roll: Roll, usable: np.ndarray) -> People:
    """People of a roll; equal bytes join those of usable rows alone."""
    encoded = roll.persons.dictionary_encode()
    person = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    bytes_of = equal_bytes(roll, usable)
    shared = bytes_of >= 0
    count = len(encoded.dictionary)
    if not shared.any():
        return People(encoded.dictionary, person, np.arange(count), count)
    size = count + int(bytes_of.max()) + 1
    edges = coo_array((np.ones(int(shared.sum()), np.int8), (person[shared], count + bytes_of[shared])), (size, size))
    _, component = connected_components(edges, directed=False)
    kin_names, kin_of = np.unique(component[:count], return_inverse=True)
    return People(encoded.dictionary, person, kin_of, len(kin_names))


def equal_bytes(roll: Roll, rows: np.ndarray) -> np.ndarray:
    """[N] int64: number of the group of equal files that a row is in; -1 where its bytes are its own."""
    groups = np.full(len(roll), -1, np.int64)
    at = np.flatnonzero(rows & ~roll.where("source_sha256", ""))
    if not len(at):
        return groups
    codes = roll.text("source_sha256").take(pa.array(at)).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    several = np.bincount(codes)[codes] > 1
    groups[at[several]] = np.unique(codes[several], return_inverse=True)[1]
    return groups
