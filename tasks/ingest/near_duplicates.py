"""Near duplicates: a perceptual hash of each picture, and the pairs of hashes that differ in few bits.

The picture's coarse structure is its lowest cosine frequencies (pHash: Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010); a bit says whether a coefficient is above the
median. Pictures of one kind share more coarse structure than they differ in - the disc of a fundus camera,
its vignette - so the frame's rim is left out and the rest divided by its local contrast first: without
that, photographs of different patients are as near to each other as copies of one are.

Pairs are found exactly, by comparing every two hashes of different groups: 50 to 300 million pairs a second on
one core, so 20 seconds to two minutes for 112,000 images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np

_SIDE = 64  # of the grey copy, in pixels
_RIM = 0.05  # of each side, left out
_AROUND = 17  # pixels of the copy a side over which contrast is local
_DARK = 4  # levels of contrast below which structure counts less, as it is mostly noise
_MOST = 128  # of the contrast, in 64ths of the local mean
_WAVES = 16  # lowest frequencies a direction
BYTES = _WAVES * _WAVES // 8
_ALL_PAIRS = 64  # larger products of two sets of equal hashes are thinned out
_TOGETHER = 1 << 22  # pairs that are kept before they become clusters

LIMITS = {"fundus": 20, "xray": 20, "endoscopy": 56}
"""Bits that hashes of near copies differ in at most; `OTHER_LIMIT` for other modalities.

Measured on real subsets: of copies (JPEG quality 50, half size, 10 % brighter, 15 % darker) 97 % or more are within
20 bits; no two photographs or x-rays of different patients are within 41 or 61, no two endoscopy frames of
unlike classes within 73. Frames that one video gives within a second or two are 8 to 79 apart, as the camera moves;
of those within 70 the pairs that looked least alike were looked at, and are such frames. Of frames of unlike classes
about one pair in 50 million would be within 56 by the tail of their distribution, one in 10 million within 60.
"""
OTHER_LIMIT = 16
_EARLIER_LIMITS = {"endoscopy": 40}  # of releases that did not write their limit down
LIMIT_FACT = "near_limit"
"""Fact of an ingest manifest: the limit by which its leaks were counted, where it is not that of the first releases."""


def limit_of(modality: str) -> int:
    """Bits that hashes of near copies of a modality differ in at most."""
    return LIMITS.get(modality, OTHER_LIMIT)


def limit_facts(modality: str, limit: int) -> dict[str, int]:
    """What a manifest says of the limit by which its leaks were counted."""
    return {LIMIT_FACT: limit} if limit != _EARLIER_LIMITS.get(modality, limit_of(modality)) else {}


def limit_of_facts(facts: Mapping[str, Any]) -> int:
    """The limit by which the leaks of a manifest were counted."""
    modality = str(facts["modality"])
    return int(facts.get(LIMIT_FACT, _EARLIER_LIMITS.get(modality, limit_of(modality))))


_angles = np.pi / (2 * _SIDE) * np.outer(np.arange(_WAVES), 2 * np.arange(_SIDE) + 1)
_BASIS = np.rint(1024 * np.cos(_angles))


def perceptual_hash(image: np.ndarray) -> bytes:
    """256 bits of a picture; its shape does not count, it is squeezed to a square first.

    After the area resize all numbers are integers below 2^53, so that machines agree on every bit.

    Args:
        image: BGR uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    top, left = int(_RIM * height), int(_RIM * width)
    grey = cv2.cvtColor(image[top : height - top, left : width - left], cv2.COLOR_BGR2GRAY)
    # Halving by whole pixels is a tenth of the work of the area resize by a fraction.
    while min(grey.shape) >= 4 * _SIDE:
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    detail = _AROUND**2 * small.astype(np.int32) - _sums(small)
    contrast = _sums(np.abs(detail)) + _DARK * _AROUND**4
    even = np.clip(64 * _AROUND**2 * detail // contrast, -_MOST, _MOST).astype(np.float64)
    waves = (_BASIS @ even @ _BASIS.T).ravel()
    # The mean says nothing once contrast is local; its bit is always 0.
    waves[0] = 0
    return np.packbits(waves > np.median(waves[1:])).tobytes()


def _sums(values: np.ndarray) -> np.ndarray:
    """Sum of the square around each value, int32."""
    return np.asarray(cv2.boxFilter(values, cv2.CV_32S, (_AROUND, _AROUND), normalize=False))


def telling(hashes: np.ndarray) -> np.ndarray:
    """[N] bool: hashes of pictures that have structure.

    Half of the bits of such a hash are set, as they compare with a median; of a picture of one colour, or of a few flat
    areas, most frequencies are equal and few bits are. Those pictures are alike without being near duplicates.

    Args:
        hashes: uint8 [N, B].
    """
    set_bits = np.bitwise_count(hashes).sum(axis=1, dtype=np.int64)
    return np.asarray(np.abs(set_bits - 4 * hashes.shape[1]) <= 2 * hashes.shape[1])


def near_pairs(hashes: np.ndarray, group: np.ndarray, limit: int) -> np.ndarray:
    """Pairs of rows of different groups whose hashes differ in at most `limit` bits.

    Equal hashes of one group are a set that is compared once. Two near sets of a and b rows give all
    a * b pairs up to 64 of them; beyond, each row of either is paired with the first row of the other
    (a + b - 1 pairs), so that every row that has a near one appears, and 10^5 equal hashes give 10^5
    pairs and not 10^9. Rows whose sets are that large are not all paired with each other.

    Args:
        hashes: uint8 [N, B].
        group: int [N].
        limit: most bits that differ, 0 to 8 B - 1.

    Returns:
        int64 [M, 2], rows (i, j) with i < j, sorted, each once.

    Raises:
        ValueError: shapes do not match, or a limit out of range.
    """
    if hashes.ndim != 2 or hashes.dtype != np.uint8 or group.shape != hashes.shape[:1]:
        raise ValueError(f"hashes {hashes.dtype} {hashes.shape} and group {group.shape} are not uint8 [N, B] and [N]")
    if not 0 <= limit < 8 * hashes.shape[1]:
        raise ValueError(f"limit {limit} is not in 0..{8 * hashes.shape[1] - 1}")
    if len(hashes) < 2:
        return np.empty((0, 2), np.int64)
    order, starts = _sets(hashes, group)
    first = order[starts[:-1]]
    return _rows(_near_sets(hashes[first], group[first], limit), order, starts)


def near_clusters(hashes: np.ndarray, new: np.ndarray, limit: int) -> np.ndarray:
    """Clusters of rows that near pairs join, step by step: the first and the last of one may be far apart.

    A row that is not new joins new ones, and nothing else: two of them are not compared, and are in one cluster only
    where the same new row, or several that are near each other, is near both, or where their hashes are equal to it.

    Args:
        hashes: uint8 [N, B].
        new: bool [N].
        limit: most bits in which two rows of a near pair differ, 0 to 8 B - 1.

    Returns:
        int64 [N], the cluster's number; -1 where a row has no near one.
    """
    found = np.full(len(hashes), -1, np.int64)
    if not new.any():
        return found
    distinct, place = np.unique(hashes, axis=0, return_inverse=True)
    place = place.reshape(-1)
    fresh = np.zeros(len(distinct), bool)
    fresh[place[new]] = True
    order = np.argsort(~fresh, kind="stable")
    joined = np.empty(len(distinct), np.int64)
    joined[order] = _joined(_near_rows(_words(distinct[order]), int(fresh.sum()), limit), len(distinct))
    rows = joined[place]
    several = (np.bincount(rows) > 1)[rows] & (np.bincount(rows, weights=new) > 0)[rows]
    found[several] = np.unique(rows[several], return_inverse=True)[1]
    return found


def _near_rows(words: np.ndarray, count: int, limit: int) -> Iterator[np.ndarray]:
    """For each of the first `count` rows, pairs int64 [M, 2] with the near ones after it."""
    columns = np.ascontiguousarray(words.T)
    for at in range(count):
        near = at + 1 + np.flatnonzero(_bits(columns[:, at + 1 :], columns[:, at]) <= limit)
        if len(near):
            yield np.stack([np.full(len(near), at), near], axis=1)


def _joined(pairs: Iterable[np.ndarray], size: int) -> np.ndarray:
    """[size] int64: number of the connected part that each node is in."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    part = np.arange(size)
    kept: list[np.ndarray] = []
    count = 0

    def fold() -> None:
        nonlocal part
        edges = part[np.concatenate(kept)]
        graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (size, size))
        part = connected_components(graph, directed=False)[1].astype(np.int64)[part]
        kept.clear()

    for some in pairs:
        kept.append(some)
        count += len(some)
        if count >= _TOGETHER:
            fold()
            count = 0
    if kept:
        fold()
    return part


def _bits(columns: np.ndarray, words: np.ndarray) -> np.ndarray:
    """[N] uint16: bits in which N hashes, uint64 [W, N], differ from one, uint64 [W]."""
    bits = np.zeros(columns.shape[1], np.uint16)
    for word, column in zip(words, columns, strict=True):
        bits += np.bitwise_count(column ^ word)
    return bits


def _sets(hashes: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by (hash, group, row), and where each run of equal (hash, group) starts, and N."""
    order = np.lexsort([group, *np.ascontiguousarray(hashes).T[::-1]])
    rows = hashes[order]
    new = (rows[1:] != rows[:-1]).any(axis=1) | (group[order][1:] != group[order][:-1])
    return order, np.concatenate([[0], np.nonzero(new)[0] + 1, [len(order)]])


def _words(hashes: np.ndarray) -> np.ndarray:
    """The hashes as uint64 [N, ceil(B / 8)], padded with zeros."""
    padded = np.zeros((len(hashes), -(-hashes.shape[1] // 8) * 8), np.uint8)
    padded[:, : hashes.shape[1]] = hashes
    return padded.view(np.uint64)


def _near_sets(hashes: np.ndarray, group: np.ndarray, limit: int) -> np.ndarray:
    """Near pairs of different groups, int64 [M, 2], each once, a < b; rows of `hashes` are unique in a group.

    Groups are ordered by size, and every row is compared with all rows of the groups after its own.
    """
    words = _words(hashes)
    names, place, sizes = np.unique(group, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(sizes, kind="stable"))[place]
    order = np.argsort(rank, kind="stable")
    columns = np.ascontiguousarray(words[order].T)
    ends = np.cumsum(np.bincount(rank, minlength=len(names)))
    found = []
    for at, own in enumerate(rank[order].tolist()):
        others = columns[:, ends[own] :]
        near = np.flatnonzero(_bits(others, columns[:, at]) <= limit)
        if len(near):
            two = order[near + ends[own]]
            found.append(np.stack([np.minimum(order[at], two), np.maximum(order[at], two)], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _rows(near: np.ndarray, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Pairs of sets as pairs of rows, by the rule that `near_pairs` states."""
    sizes = np.diff(starts)
    one, two = near[:, 0], near[:, 1]
    sizes_one, sizes_two = sizes[one], sizes[two]
    few = sizes_one * sizes_two <= _ALL_PAIRS
    # Where all pairs are wanted pair number k is (k // b, k % b); else the first b of the a + b - 1 share a's first.
    totals = np.where(few, sizes_one * sizes_two, sizes_one + sizes_two - 1)
    which = np.repeat(np.arange(len(near)), totals)
    number = np.arange(len(which)) - np.repeat(np.cumsum(totals) - totals, totals)
    wide = sizes_two[which]
    left = np.where(few[which], number // wide, np.maximum(0, number - wide + 1))
    right = np.where(few[which], number % wide, np.where(number < wide, number, 0))
    rows = np.stack([order[starts[one[which]] + left], order[starts[two[which]] + right]], axis=1)
    rows.sort(axis=1)
    return rows[np.lexsort([rows[:, 1], rows[:, 0]])]
