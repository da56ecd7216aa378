"""The first of many by score; ties go by the hash of the key, so that neither order nor names decide."""

from __future__ import annotations

import numpy as np

from infra.digest import sha256_bytes


def first(scores: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Positions of the `count` highest scores, in no particular order.

    Args:
        scores: [N] numbers, no NaN.
        count: more than N gives all.
        keys: [N] str, unique.
    """
    if count >= len(scores):
        return np.arange(len(scores))
    if count <= 0:
        return np.empty(0, np.int64)
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    sure, tied = np.flatnonzero(scores > cut), np.flatnonzero(scores == cut)
    room = count - len(sure)
    if room < len(tied):
        tied = np.array(sorted(tied.tolist(), key=lambda n: _lot(keys[n]))[:room], np.int64)
    return np.concatenate([sure, tied])


def ranked(scores: np.ndarray, count: int, keys: np.ndarray) -> list[int]:
    """As `first`, highest score first."""
    return sorted(first(scores, count, keys).tolist(), key=lambda n: (-float(scores[n]), _lot(keys[n])))


def _lot(key: object) -> str:
    return sha256_bytes(str(key).encode())
