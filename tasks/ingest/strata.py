"""Strata of our splits: groups of patients by their rarest label, and by attributes where the spec names some."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import age_band
from tasks.corpora.csv_table import translated
from tasks.ingest.image_table import ImageTable
from tasks.ingest.leakage import PatientGroups

KEY = "corpus.split.stratify"


def label_strata(images: ImageTable, groups: PatientGroups, pool: np.ndarray) -> dict[int, int]:
    """Group to the rarest of its labels; -1 where a multilabel group has none of them.

    Args:
        pool: [N] bool, rows that count.
    """
    rows = np.flatnonzero(pool)
    if images.labels is None:
        pairs = np.stack([groups.group[rows], images.numbers("label")[rows]], axis=1)
    else:
        at, label = np.nonzero(images.labels[rows] > 0)
        pairs = np.stack([groups.group[rows[at]], label], axis=1)
    return dict.fromkeys(np.unique(groups.group[rows]).tolist(), -1) | _rarest(pairs)


def attribute_strata(
    images: ImageTable, groups: PatientGroups, pool: np.ndarray, attributes: Sequence[str]
) -> dict[int, tuple[str, ...]]:
    """Group to a value of each attribute, its rarest where it has several; "" is not known and a value like others.

    Args:
        pool: [N] bool, rows that count.
    """
    rows = np.flatnonzero(pool)
    group = groups.group[rows]
    found: dict[int, list[str]] = {number: [] for number in np.unique(group).tolist()}
    for attribute in attributes:
        coded = stratum_values(images, attribute).take(pa.array(rows)).dictionary_encode()
        # By their names, so that the order of the rows does not decide between values of one frequency.
        names = sorted(coded.dictionary.to_pylist())
        place_of = {name: place for place, name in enumerate(names)}
        place = np.array([place_of[name] for name in coded.dictionary.to_pylist()], np.int64)
        pairs = np.stack([group, place[coded.indices.to_numpy()]], axis=1)
        for number, value in _rarest(pairs).items():
            found[number].append(names[value])
    return {number: tuple(values) for number, values in found.items()}


def stratum_values(images: ImageTable, attribute: str) -> pa.StringArray:
    """[N] text: an attribute as strata have it, ages in bands and dates by year."""
    texts = images.text(attribute)
    if attribute == "age":
        return translated(texts, lambda text: age_band(float(text)) if text else "")
    return pc.utf8_slice_codeunits(texts, 0, 4) if attribute == "date" else texts


def check_attributes(images: ImageTable, attributes: Sequence[str]) -> None:
    """CorpusError where no usable image has one of the attributes."""
    usable = images.usable
    for attribute in attributes:
        if (usable & ~images.where(attribute, "")).any():
            continue
        told = "; what headers of DICOM files tell is known only after the split" if images.is_dicom.any() else ""
        raise CorpusError(
            f"{KEY}: no image of the corpus has {attribute}{told}; leave it out, or say where it stands "
            "(corpus.table.attributes, corpus.folder)"
        )


def spread(total: int, wanted: Sequence[float], most: Sequence[int]) -> list[int]:
    """How many groups each stratum gives, `total` together: as near to what is wanted of each as whole numbers allow.

    Strata of a site or camera are often too small for a whole group, and rounding each by itself would leave all of
    them out; here the largest remainders are rounded up (Hamilton's method).

    Args:
        total: at most the sum of `most`.
        wanted: of each stratum.
        most: groups that each has to give.
    """
    given = [0] * len(most)
    waiting = [(-want, at) for at, (want, count) in enumerate(zip(wanted, most, strict=True)) if count]
    heapq.heapify(waiting)
    for _ in range(total):
        less, at = heapq.heappop(waiting)
        given[at] += 1
        if given[at] < most[at]:
            heapq.heappush(waiting, (less + 1, at))
    return given


def _rarest(pairs: np.ndarray) -> dict[int, int]:
    """Group to the value of it that fewest groups have, the least of several; `pairs` int [M, 2] of group and value."""
    if not len(pairs):
        return {}
    pairs = np.unique(pairs, axis=0)
    common = np.bincount(pairs[:, 1])
    order = np.lexsort((pairs[:, 1], common[pairs[:, 1]], pairs[:, 0]))
    group, first = np.unique(pairs[order, 0], return_index=True)
    return dict(zip(group.tolist(), pairs[order[first], 1].tolist(), strict=True))
