"""Stored images as pixels."""

from __future__ import annotations

import numpy as np

from infra.errors import CorruptError
from infra.storage.store import Store
from models.augmentation.rendering import decode
from tasks.data.corpus import Shard, read_image


def load_image(store: Store, shard: Shard, row: int, *, cached: bool = True) -> np.ndarray:
    """One stored image, RGB uint8 [H, W, 3]; CorruptError names shard and key. `cached` as `read_image`."""
    data = read_image(store, shard, row, cached=cached)
    try:
        return decode(data)
    except ValueError as error:
        raise CorruptError(f"{shard.output.name}: {shard.keys[row]}: {error}; run repair") from error
