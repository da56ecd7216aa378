"""Pairs of near hashes of different groups among a million, exactly.

Hashes within `limit` bits of each other differ in at most `limit` of any bands that the bits are cut into, so
that of limit + spare bands at least `spare` are equal. Every choice of `spare` bands is one sorting of all
hashes by these bands alone; only hashes that stand in one run are compared in full. No near pair is lost.
Wide limits and hashes that crowd together cost more time, never more memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb

import numpy as np

_ALL_PAIRS = 64  # larger products of two sets of equal hashes are thinned out
_MOST_SORTINGS = 3000
_SAMPLE = 20_000  # hashes by which the candidates of a way to cut bands are counted beforehand
_SORT_COST = 3  # of one hash in one sorting, in comparisons of two hashes
DIRECT = 10**10  # pairs of different groups up to which comparing all (300 million a second) costs least
_HELD = 1 << 22  # pairs found again and again are made unique when there are so many


def near_pairs(hashes: np.ndarray, group: np.ndarray, limit: int, *, direct: int = DIRECT) -> np.ndarray:
    """Pairs of rows of different groups whose hashes differ in at most `limit` bits.

    Equal hashes of one group are a set that is compared once. Two near sets of a and b rows give all
    a * b pairs up to 64 of them; beyond, each row of either is paired with the first row of the other
    (a + b - 1 pairs), so that every row that has a near one appears, and 10^5 equal hashes give 10^5
    pairs and not 10^9. Rows whose sets are that large are not all paired with each other.

    Args:
        hashes: uint8 [N, B].
        group: int [N].
        limit: most bits that differ, 0 to 8 B - 1.
        direct: pairs of different groups up to which all are compared, without bands.

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
    return _rows(_near_sets(hashes[first], group[first], limit, direct), order, starts)


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


def _near_sets(hashes: np.ndarray, group: np.ndarray, limit: int, direct: int) -> np.ndarray:
    """Near pairs of different groups, int64 [M, 2], each once, a < b; rows of `hashes` are unique in a group."""
    words, count = _words(hashes), len(hashes)
    sizes = np.unique(group, return_counts=True)[1]
    if (count**2 - (sizes.astype(np.float64) ** 2).sum()) / 2 <= direct:
        return _compare_all(words, group, limit)
    found = np.empty(0, np.int64)
    fresh: list[np.ndarray] = []
    for key, bits in _keys(hashes, limit):
        for left, right in _same_key(key, bits):
            differ = group[left] != group[right]
            one, two = left[differ], right[differ]
            near = np.bitwise_count(words[one] ^ words[two]).sum(axis=1, dtype=np.int64) <= limit
            fresh.append((np.minimum(one, two) * count + np.maximum(one, two))[near])
        if sum(map(len, fresh)) > _HELD:
            found, fresh = np.unique(np.concatenate([found, *fresh])), []
    found = np.unique(np.concatenate([found, *fresh]))
    return np.stack([found // count, found % count], axis=1)


def _compare_all(words: np.ndarray, group: np.ndarray, limit: int) -> np.ndarray:
    """As `_near_sets`, by comparing every row of a group with all rows of larger groups."""
    names, place, sizes = np.unique(group, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(sizes, kind="stable"))[place]
    order = np.argsort(rank, kind="stable")
    columns = np.ascontiguousarray(words[order].T)
    ends = np.cumsum(np.bincount(rank, minlength=len(names)))
    found = []
    for at, own in enumerate(rank[order].tolist()):
        others = columns[:, ends[own] :]
        bits = np.zeros(others.shape[1], np.uint16)
        for word, column in zip(columns[:, at], others, strict=True):
            bits += np.bitwise_count(column ^ word)
        near = np.flatnonzero(bits <= limit)
        if len(near):
            two = order[near + ends[own]]
            found.append(np.stack([np.minimum(order[at], two), np.maximum(order[at], two)], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _keys(hashes: np.ndarray, limit: int) -> Iterator[tuple[np.ndarray, int]]:
    """Sorting keys, uint64 [N], and their width in bits: of every pair within `limit` at least one key is equal."""
    bits, spare = np.unpackbits(hashes, axis=1), _spare(hashes, limit)
    for chosen in combinations(_bands(bits, limit, spare), spare):
        yield _joined(chosen)


def _spare(hashes: np.ndarray, limit: int) -> int:
    """How many bands a key takes so that sorting and comparing cost least, judged by a sample of the hashes."""
    count = len(hashes)
    sample = hashes[:: -(-count // _SAMPLE)]
    bits, scale = np.unpackbits(sample, axis=1), (count / len(sample)) ** 2
    costs: dict[int, float] = {}
    for spare in range(1, 8 * hashes.shape[1] - limit + 1):
        sortings = comb(limit + spare, spare)
        if spare > 1 and sortings > _MOST_SORTINGS:
            break
        bands = _bands(bits, limit, spare)
        tried = [bands[at : at + spare] for at in range(0, len(bands) - spare + 1, max(1, len(bands) // 4))]
        runs = [np.unique(_joined(chosen)[0], return_counts=True)[1].astype(np.float64) for chosen in tried]
        candidates = scale * float(np.mean([(run * (run - 1) / 2).sum() for run in runs]))
        costs[spare] = sortings * (_SORT_COST * count + candidates)
    return min(costs, key=costs.__getitem__)


def _bands(bits: np.ndarray, limit: int, spare: int) -> list[tuple[np.ndarray, int]]:
    """limit + spare bands of the bits [N, 8 B], each uint64 [N] with its width in bits."""
    # Row numbers share 64 bits with the key. A band cut short still finds every pair, and some more.
    most = (64 - len(bits).bit_length()) // spare
    bands = []
    for start in range(limit + spare):
        # Bits far from each other, because neighbours say much the same.
        places = range(start, bits.shape[1], limit + spare)[:most]
        band = np.zeros(len(bits), np.uint64)
        for place in places:
            band = (band << np.uint64(1)) | bits[:, place]
        bands.append((band, len(places)))
    return bands


def _joined(bands: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    key, wide = bands[0]
    for band, share in bands[1:]:
        key, wide = (key << np.uint64(share)) | band, wide + share
    return key, wide


def _same_key(key: np.ndarray, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of rows with the same key, as two int64 arrays at a time."""
    row_bits = np.uint64(64 - bits)
    packed = np.sort((key << row_bits) | np.arange(len(key), dtype=np.uint64))
    key = packed >> row_bits
    rows = (packed & ((np.uint64(1) << row_bits) - np.uint64(1))).astype(np.int64)
    at, step = np.nonzero(key[1:] == key[:-1])[0], 1
    while len(at):
        yield rows[at], rows[at + step]
        step += 1
        at = at[at + step < len(key)]
        at = at[key[at] == key[at + step]]


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
