"""Decoded images of a process, shared by its trainings and its validations."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from tasks.data.corpus import Corpus, Shard
from tasks.data.images import load_image


class DecodedImages:
    """Decoded images of this process, kept while they fit; several trainings of one corpus share them.

    Of a corpus that does not fit, those that came first stay: an epoch comes to every image once, in another order
    each time, so making room for the latest would find 15 % of the images where half of them fit, and 2 % where a
    fifth does. Images of corpora that were not asked for lately make room.

    Args:
        limit: bytes of pixels that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[str, dict[tuple[str, int], np.ndarray]] = OrderedDict()  # by ingest, last used last
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, corpus: Corpus, shard: Shard, row: int) -> np.ndarray:
        """The image, RGB uint8 [H, W, 3], decoded now or before."""
        ingest, name = corpus.manifest.key, (shard.id, row)
        with self._lock:
            found = self._of(ingest).get(name)
        if found is not None:
            return found
        image = load_image(corpus.store, shard, row)
        with self._lock:
            own = self._of(ingest)
            while self._bytes + image.nbytes > self.limit and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= sum(each.nbytes for each in gone.values())
            if name not in own and self._bytes + image.nbytes <= self.limit:
                own[name] = image
                self._bytes += image.nbytes
        return image

    def _of(self, ingest: str) -> dict[tuple[str, int], np.ndarray]:
        own = self._kept.setdefault(ingest, {})
        self._kept.move_to_end(ingest)
        return own


IMAGES = DecodedImages(limit=1 << 30)
