"""The images that are compared: those that are new since the champion was trained, and those that it learned from.

Training images alone are compared: an official test split is often drawn otherwise than the training images. New
labelled images stand beside old labelled ones, and new unlabelled ones beside old unlabelled ones, in the same shares:
what annotators choose is unlike the pool, in every corpus, and that is no drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import digest_of
from models.statistics.two_samples import Sides
from tasks.data.catalog import OK
from tasks.data.corpus import Corpus

MOST = 3000
"""Images of either side that are looked at; more tell a share no better than to one in a hundred."""

MOST_SHARDS = 64
"""Shards of either side whose stored labels are read."""

_ATTRIBUTES = ("site", "camera", "sex", "projection", "quality", "width", "height")


@dataclass(frozen=True)
class Training:
    """Training images of a corpus, as its catalog has them.

    Attributes:
        source: [N] str, digests of the files.
        patient: [N] str.
        labelled: bool [N].
        label: [N] str, the class's name, "" where none is known; of several labels an image always "".
        labels: int8 [N, C] or None.
        attributes: [N] each.
    """

    classes: list[str]
    source: np.ndarray
    patient: np.ndarray
    labelled: np.ndarray
    label: np.ndarray
    labels: np.ndarray | None
    attributes: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.source)

    def chosen(self, rows: np.ndarray) -> Training:
        """Some rows."""
        return Training(
            self.classes,
            self.source[rows],
            self.patient[rows],
            self.labelled[rows],
            self.label[rows],
            None if self.labels is None else self.labels[rows],
            {name: values[rows] for name, values in self.attributes.items()},
        )


def training_of(corpus: Corpus) -> Training:
    """The training images that a spec uses, in the order of the catalog."""
    catalog = corpus.catalog
    catalog = catalog.filter(pc.and_(pc.equal(catalog["status"], OK), pc.equal(catalog["split"], "train")))
    number = catalog["label"].to_numpy()
    names = np.array([*corpus.classes, ""], dtype=object)
    labels = None
    if corpus.task == "multilabel":
        flat = pc.list_flatten(catalog["labels"]).to_numpy(zero_copy_only=False)
        labels = np.asarray(flat, np.int8).reshape(len(catalog), -1)
    attributes = {name: _column(catalog, name) for name in (*_ATTRIBUTES, "corpus") if name in catalog.column_names}
    return Training(
        classes=corpus.classes,
        source=_column(catalog, "source_sha256"),
        patient=np.where(_column(catalog, "patient") == "", _column(catalog, "key"), _column(catalog, "patient")),
        labelled=np.asarray(number >= 0 if labels is None else (labels >= 0).any(axis=1)),
        label=names[np.where(number >= 0, number, len(names) - 1)],
        labels=labels,
        attributes=attributes,
    )


def known_sources(corpus: Corpus) -> set[str]:
    """Digests of the files of all images that a corpus used, of every split."""
    catalog = corpus.catalog
    return set(catalog.filter(pc.equal(catalog["status"], OK))["source_sha256"].to_pylist())


@dataclass(frozen=True)
class Sample:
    """Two sides that can be compared.

    Attributes:
        rows: int64 [n], of the arrays that it was taken from.
        sides: [n].
        seed: of the deals; it follows from the images.
    """

    rows: np.ndarray
    sides: Sides
    seed: int

    @property
    def counts(self) -> tuple[int, int]:
        """Images on the new and on the old side."""
        new = int(self.sides.new.sum())
        return new, len(self.rows) - new

    def within(self, kept: np.ndarray) -> Sample:
        """The rows of bool [n] alone."""
        sides = Sides(self.sides.new[kept], self.sides.unit[kept], self.sides.stratum[kept])
        return Sample(self.rows[kept], sides, self.seed)


def sample_of(
    new: np.ndarray, stratum: np.ndarray, patient: np.ndarray, source: np.ndarray, least: int, most: int = MOST
) -> Sample | None:
    """Rows of both sides with the same shares of each stratum; None where a side has fewer than `least`.

    New images of a stratum of which fewer than `least` are old are left out: they have nothing to stand beside.

    Args:
        new: bool [N].
        stratum: int64 [N], such as labelled or not.
        patient, source: [N] str.
        least, most: images of a side.
    """
    seed = int(digest_of(sorted(map(str, source[new])))[:15], 16)
    rng = np.random.default_rng(seed)
    pairs = {}
    for each in np.unique(stratum[new]):
        own = [np.flatnonzero((stratum == each) & side) for side in (new, ~new)]
        if len(own[1]) >= least:
            pairs[int(each)] = own
    total = sum(len(pair[0]) for pair in pairs.values())
    if total < least:
        return None
    # As many old ones for each new one as the scarcest stratum has.
    times = min(len(old) / len(fresh) for fresh, old in pairs.values())
    parts = []
    for fresh, old in pairs.values():
        few = max(1, round(len(fresh) * min(1.0, most / total)))
        many = max(1, int(len(fresh) * min(times, most / total)))
        parts += [rng.permutation(fresh)[:few], rng.permutation(old)[:many]]
    rows = np.sort(np.concatenate(parts))
    sides = Sides(new[rows], np.unique(patient[rows], return_inverse=True)[1].astype(np.int64), stratum[rows])
    found = Sample(rows, sides, seed)
    return found if min(found.counts) >= least else None


@dataclass(frozen=True)
class StoredRows:
    """Training images of today's corpus by their place: shards in manifest order.

    Attributes:
        shard, row: int64 [N].
        source, patient: [N] str.
        labelled: bool [N].
    """

    shard: np.ndarray
    row: np.ndarray
    source: np.ndarray
    patient: np.ndarray
    labelled: np.ndarray


def stored_rows(corpus: Corpus, new_sources: set[str], old_sources: set[str]) -> StoredRows:
    """Places of new and old training images, of at most MOST_SHARDS shards of either side."""
    catalog = corpus.catalog
    source = dict(zip(catalog["key"].to_pylist(), catalog["source_sha256"].to_pylist(), strict=True))
    parts: list[tuple[Any, ...]] = []
    left = {True: MOST_SHARDS, False: MOST_SHARDS}
    numbers = [number for number, shard in enumerate(corpus.shards) if shard.split == "train"]
    # Any order that names do not decide: neighbours in a corpus are alike.
    for number in sorted(numbers, key=lambda number: digest_of([corpus.shards[number].id])):
        shard = corpus.shards[number]
        own = np.array([source[str(key)] for key in shard.keys], dtype=object)
        is_new = np.array([each in new_sources for each in own], bool) & shard.used
        is_old = np.array([each in old_sources for each in own], bool) & shard.used
        wanted = is_new if left[True] > 0 else np.zeros(len(own), bool)
        wanted = wanted | is_old if left[False] > 0 else wanted
        for side, rows in ((True, is_new), (False, is_old)):
            left[side] -= bool(rows.any())
        rows = np.flatnonzero(wanted)
        parts.append((np.full(len(rows), number), rows, own[rows], shard.patient[rows], shard.labelled[rows]))
    columns = [np.concatenate(column) if column else np.zeros(0) for column in zip(*parts, strict=True)] or [
        np.zeros(0, int)
    ] * 5
    return StoredRows(*columns)


def _column(catalog: pa.Table, name: str) -> np.ndarray:
    values = catalog[name].to_numpy(zero_copy_only=False)
    return values if values.dtype.kind in "fiu" else np.array(["" if one is None else one for one in values], object)
