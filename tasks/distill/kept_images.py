"""Images that trainings of this process come back to, kept while they fit: decoded ones, and rendered views."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import psutil

from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Corpus, Shard, load_image
from tasks.data.views import view_of


class KeptImages:
    """Arrays of pixels by name, kept while they fit; several trainings of one corpus share them.

    Of a corpus that does not fit, those that came first stay: an epoch comes to every image once, in another order
    each time, so making room for the latest would find 15 % of the images where half of them fit, and 2 % where a
    fifth does. Images of the groups that were not used lately make room.

    Args:
        limit: bytes of pixels that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, dict[Hashable, np.ndarray]] = OrderedDict()  # by group, last used last
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, group: Hashable, name: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a name, made now or before; it must not be changed."""
        with self._lock:
            found = self._of(group).get(name)
        if found is not None:
            return found
        image = make()
        with self._lock:
            own = self._of(group)
            while self._bytes + image.nbytes > self.limit and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= sum(each.nbytes for each in gone.values())
            if name not in own and self._bytes + image.nbytes <= self.limit:
                own[name] = image
                self._bytes += image.nbytes
        return image

    def _of(self, group: Hashable) -> dict[Hashable, np.ndarray]:
        own = self._kept.setdefault(group, {})
        self._kept.move_to_end(group)
        return own


IMAGES = KeptImages(limit=1 << 30)
VIEWS = KeptImages(limit=min(2 << 30, psutil.virtual_memory().total // 12))
"""Stored views: a student comes back to each of them every V + 1 epochs, and rendering takes longer than its step."""


def decoded(corpus: Corpus, shard: Shard, row: int) -> np.ndarray:
    """An image of a corpus, RGB uint8 [H, W, 3]."""
    return IMAGES.get(corpus.manifest.key, (shard.id, row), lambda: load_image(corpus.store, shard, row))


def stored_view(corpus: Corpus, shard: Shard, recipe: ViewRecipe, view: int, row: int) -> np.ndarray:
    """A view of an image before it is mixed, RGB uint8 [S, S, 3]."""

    def rendered() -> np.ndarray:
        return view_of(lambda own: decoded(corpus, shard, own), shard, recipe, view, row)[0]

    return VIEWS.get((corpus.manifest.key, recipe.recipe_id), (shard.id, row, view), rendered)
