"""Images without a known patient that splits of our making keep together, because their pictures are near duplicates.

Frames of one video, or a photograph stored twice, are the only sign of a shared patient where a corpus names none. An
image whose patient is known goes with its patient and is compared with nothing: a near duplicate does not join
patients. What lies in shards stays there; new images that are near one follow it, to test or val before train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.data.catalog import SPLITS
from tasks.ingest.image_table import ImageTable, as_text, place_in
from tasks.ingest.near_duplicates import BYTES, limit_of, near_clusters, telling
from tasks.ingest.parent import Parent
from tasks.spec import SplitSection

FACT = "near_duplicates"
"""Fact of an ingest manifest that kept near duplicates together: limit, images, clusters, joined, largest."""

_LARGE = 0.1  # of the images compared: a cluster that the note warns of


@dataclass(frozen=True)
class NearGroups:
    """Clusters of near duplicates among the images without a known patient."""

    cluster: np.ndarray  # int64 [N]: cluster of each row of the image table, -1 for none
    limit: int  # most bits in which the hashes of a near pair differ
    compared: int  # images whose hash is known, those in shards included
    unknown: int  # images to group whose hash is not known
    sizes: np.ndarray  # int64 [K]: images of each cluster
    stored_cluster: np.ndarray  # int64 [M]: clusters of images that lie in shards, of gone files too ...
    stored_split: np.ndarray  # int8 [M]: ... and their split

    def to_json(self) -> dict[str, int]:
        """For the manifest's facts."""
        return {
            "limit": self.limit,
            "images": self.compared,
            "clusters": len(self.sizes),
            "joined": int(self.sizes.sum()),
            "largest": int(self.sizes.max(initial=0)),
        }

    @property
    def notes(self) -> list[str]:
        """A sentence for people where images were joined; more where one cluster is large."""
        found = self.to_json()
        if not found["clusters"]:
            return []
        note = (
            f"{found['joined']} of {found['images']} images without a patient are near duplicates of others; their "
            f"{found['clusters']} clusters, the largest of {found['largest']}, are in one split each"
        )
        if found["largest"] > _LARGE * found["images"]:
            note += (
                "; so large a cluster makes shares uneven: look at it, name patients, or set "
                "corpus.split.near_duplicates: ignore"
            )
        return [note]


def grouping_limit(section: SplitSection, official: frozenset[str], modality: str) -> int | None:
    """Most bits in which near duplicates differ that the split keeps together; None where it keeps none.

    Args:
        official: splits that are the corpus's own.
    """
    shares = {"val": section.val, "test": section.test}
    ours = any(share > 0 and split not in official for split, share in shares.items())
    if section.near_duplicates == "ignore" or not ours:
        return None
    return limit_of(modality)


def new_without_patient(images: ImageTable, stored: np.ndarray) -> np.ndarray:
    """[N] bool: rows that may be stored now and whose patient is not known.

    Args:
        stored: [N] bool, rows that lie in shards already.
    """
    return images.usable & images.has_file & images.where("patient", "") & ~stored


def stored_rows(images: ImageTable, parent: Parent) -> np.ndarray:
    """[N] bool: rows that lie in the parent's shards."""
    at = place_in(images.text("key"), parent.keys)
    stored = np.zeros(len(images), bool)
    stored[at >= 0] = parent.stored[at[at >= 0]]
    return stored


def find_near_groups(
    images: ImageTable, new: np.ndarray, parent: Parent, hash_of: Callable[[str], bytes | None], limit: int
) -> NearGroups:
    """Clusters that near pairs join of which at least one image is new.

    Args:
        new: [N] bool, rows to group; those whose hash is not known are in no cluster.
        hash_of: hash by the digest of the source file.
        limit: most bits in which hashes of a near pair differ.
    """
    rows = np.flatnonzero(new)
    digests = images.text("source_sha256").take(pa.array(rows)).to_pylist()
    hashes = [hash_of(digest) for digest in digests]
    rows = rows[np.array([found is not None for found in hashes], bool)]
    keys, splits, before = _stored(parent)
    bits = np.frombuffer(b"".join(filter(None, [*hashes, *before])), np.uint8).reshape(-1, BYTES)
    joined = np.full(len(bits), -1, np.int64)
    says = telling(bits)
    joined[says] = near_clusters(bits[says], (np.arange(len(bits)) < len(rows))[says], limit)
    cluster = np.full(len(images), -1, np.int64)
    at = place_in(keys, images.text("key"))
    cluster[at[at >= 0]] = joined[len(rows) :][at >= 0]
    cluster[rows] = joined[: len(rows)]
    # A patient who became known since joins nobody.
    cluster[~(images.usable & images.where("patient", ""))] = -1
    old = joined[len(rows) :]
    sizes = np.bincount(joined[joined >= 0])
    return NearGroups(cluster, limit, len(bits), len(digests) - len(rows), sizes, old[old >= 0], splits[old >= 0])


def _stored(parent: Parent) -> tuple[pa.Array, np.ndarray, list[Any]]:
    """Keys, splits and hashes of the images in shards whose patient is not known."""
    at = place_in(as_text(parent.index["key"]), parent.keys)
    nobody = np.array([not patient for patient in parent.catalog["patient"].to_pylist()], bool)
    chosen = np.flatnonzero(at >= 0)
    chosen = chosen[nobody[at[chosen]]]
    taken = parent.index.take(pa.array(chosen))
    splits = place_in(as_text(parent.catalog["split"]), pa.array(SPLITS)).astype(np.int8)[at[chosen]]
    return as_text(taken["key"]), splits, taken["phash"].to_pylist()
