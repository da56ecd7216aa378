"""Folds over all patients of a corpus, in place of its splits: every labelled image is a test image once.

Shards stay as they are: the catalog gives each row the split that it has in a fold. Patients that share a file, and
images without a patient that are near duplicates, are in one fold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from infra.errors import SpecError
from tasks.data.catalog import SPLITS
from tasks.ingest.near_duplicates import limit_of_facts, near_clusters, telling
from tasks.subset.choice import Patients, places

OFFICIAL = "official"
"""Two folds: the test images of the corpus's own split, and all others."""


def folded(
    catalog: pa.Table,
    index: pa.Table,
    facts: Mapping[str, Any],
    *,
    used: np.ndarray,
    has: np.ndarray,
    known: np.ndarray,
    folds: int | str,
    fold: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Split [N] str and leak [N] bool of each row of the catalog in one fold.

    The fold's groups of patients are test images. Of the others, as large a share of each class as in the corpus's own
    splits is for validation; unlabelled images of none of these patients are for training. Official folds are taken as
    they are, image by image, also where they part patients; such test images are marked as leaks.

    Args:
        index: of the shards, for hashes of pictures.
        used, known: [N] bool: the row is used; it has a label.
        has: [N, C] bool: its classes.
        folds: how many, or `OFFICIAL`.
        fold: the number of this one, from 0 on.
        seed: of the order in which patients are dealt.

    Raises:
        SpecError: there are fewer groups of patients than folds; or, of official folds, no test image.
    """
    split = np.array(catalog["split"].to_pylist(), dtype=object)
    cluster = _near(catalog, index, facts)
    group = _groups(catalog, used, cluster)
    labelled = used & known
    if folds == OFFICIAL:
        inside = labelled & (split == "test")
        if not inside.any() or not (labelled & ~inside).any():
            raise SpecError("labels.folds: official is of a corpus with test images and others; this one has not both")
        if fold == 0:
            return split, catalog["leak"].to_numpy(zero_copy_only=False)
        learned = Patients.of(group[inside], has[inside], exclusive=facts["task"] != "multilabel")
        judged = places(learned.names, learned.stratum, seed + 1) <= _val_share(labelled, split)
        found = np.where(labelled, "test", split).astype(object)
        found[inside] = np.where(np.isin(group[inside], learned.names[judged]), "val", "train")
        straddling = np.unique(group[used & (found == "train")])
        return found, _leaks(found, cluster, used) | (used & (found == "test") & np.isin(group, straddling))
    patients = Patients.of(group[labelled], has[labelled], exclusive=facts["task"] != "multilabel")
    if len(patients.names) < int(folds):
        raise SpecError(f"labels.folds: {folds} are asked for, and {len(patients.names)} patients have a label")
    tested = _dealt(patients, int(folds), seed) == fold
    rest = ~tested
    judged = np.zeros(len(tested), bool)
    judged[rest] = places(patients.names[rest], patients.stratum[rest], seed + 1) <= _val_share(labelled, split)
    found = np.full(len(split), "train", dtype=object)
    found[np.isin(group, patients.names[judged])] = "val"
    found[np.isin(group, patients.names[tested])] = "test"
    found[~used] = split[~used]
    return found, _leaks(found, cluster, used)


def count_of(folds: int | str) -> int:
    """How many folds there are."""
    return 2 if folds == OFFICIAL else int(folds)


def _val_share(labelled: np.ndarray, split: np.ndarray) -> float:
    """Share of the labelled images outside of the test set that the corpus's own splits validate with."""
    inside = labelled & (split != "test")
    return float((inside & (split == "val")).sum()) / max(1, int(inside.sum()))


def _dealt(patients: Patients, folds: int, seed: int) -> np.ndarray:
    """Fold [P] of each patient: dealt in turn, by class alike, in an order of hashes."""
    digest = np.array([hashlib.sha256(f"fold:{seed}:{name}".encode()).hexdigest() for name in patients.names])
    found = np.zeros(len(digest), np.int64)
    found[np.lexsort((digest, patients.stratum))] = np.arange(len(digest)) % folds
    return found


def _near(catalog: pa.Table, index: pa.Table, facts: Mapping[str, Any]) -> np.ndarray:
    """[N] int64: cluster of near duplicates of each row; -1 for none."""
    place = {key: row for row, key in enumerate(catalog["key"].to_pylist())}
    rows, hashes = [], []
    for key, value in zip(index["key"].to_pylist(), index["phash"].to_pylist(), strict=True):
        if value and key in place:
            rows.append(place[key])
            hashes.append(np.frombuffer(value, np.uint8))
    found = np.full(len(catalog), -1, np.int64)
    if hashes:
        every, at = np.stack(hashes), np.array(rows)
        kept = telling(every)
        found[at[kept]] = near_clusters(every[kept], np.ones(int(kept.sum()), bool), limit_of_facts(facts))
    return found


def _groups(catalog: pa.Table, used: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """[N] str: the group of patients that a row is in, by the first of its patients' names."""
    patient, key = catalog["patient"].to_pylist(), catalog["key"].to_pylist()
    named = np.array([bool(own) for own in patient])
    ids = [f"patient:{own}" if own else f"image:{name}" for own, name in zip(patient, key, strict=True)]
    names, who = np.unique(np.array(ids, dtype=str), return_inverse=True)
    size, ends = len(names), [np.zeros((0, 2), np.int64)]
    sha = np.array(catalog["source_sha256"].to_pylist(), dtype=str)
    files = np.unique(sha, return_inverse=True)[1]
    near = np.where(named, -1, cluster)
    for numbers in (np.where(used & (sha != ""), files, -1), np.where(used, near, -1)):
        at = np.flatnonzero(numbers >= 0)
        ends.append(np.stack([who[at], size + numbers[at]], axis=1))
        size += int(numbers.max(initial=-1)) + 1
    edges = np.concatenate(ends)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (size, size))
    part = connected_components(graph, directed=False)[1][: len(names)]
    first = np.unique(part, return_index=True)[1]
    return np.asarray(names[first[np.unique(part, return_inverse=True)[1]]][who])


def _leaks(split: np.ndarray, cluster: np.ndarray, used: np.ndarray) -> np.ndarray:
    """[N] bool: validation and test rows of which a near duplicate is trained on."""
    trained = np.unique(cluster[used & (split == "train") & (cluster >= 0)])
    return np.asarray(used & np.isin(split, SPLITS[1:]) & np.isin(cluster, trained))
