"""Views of a shard's rows for teachers and students, mixed ones included (DESIGN: View).

Labelling streams whole shards through `rendered`; training asks `view_of` for single rows in its own order. Both go
through the same draws and the same arithmetic, so their pixels are equal. Partners are drawn once, by
`stored_partners`, and stored beside the labels.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from models.augmentation.draws import NO_PARTNER, ViewRecipe, draw, mixture, partners
from models.augmentation.rendering import mix, render, resize
from tasks.data.corpus import Shard

AHEAD = 2
"""Blocks that `rendered` prepares while its consumer has one."""

Load = Callable[[int], np.ndarray]
"""From a row to its image, RGB uint8 [H, W, 3]; called from threads."""

Images = dict[tuple[int, int], np.ndarray]
"""By view and side: RGB uint8 [B, side, side, 3]."""


def stored_partners(recipe: ViewRecipe, view: int, shard: Shard, skip: Collection[int] = ()) -> np.ndarray | None:
    """The partners of a view as they are stored with its labels.

    Args:
        skip: rows that must not be loaded; their partners keep their own picture and are NO_PARTNER.

    Returns:
        int32 [N], rows or NO_PARTNER; None where the view is not mixed.
    """
    found = partners(recipe, view, shard.keys)
    if found is not None and skip:
        gone = np.fromiter(skip, dtype=np.int64)
        left = found[gone]
        found[gone] = NO_PARTNER
        found[left[left != NO_PARTNER]] = NO_PARTNER
    return found


def view_of(
    load: Load,
    shard: Shard,
    recipe: ViewRecipe,
    view: int,
    row: int,
    partner: int = NO_PARTNER,
    *,
    known: dict[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, float]:
    """One view of one row, RGB uint8 [S, S, 3], and the row's own share in it: 1 where it is not mixed.

    Args:
        partner: the row that is mixed in, as stored with the labels.
        known: this view of rows of this shard before mixing; read, and added to where rows are mixed.
    """
    if partner == NO_PARTNER:
        return _alone(load(row), shard, recipe, view, row), 1.0
    known = {} if known is None else known
    for each in (row, partner):
        if each not in known:
            known[each] = _alone(load(each), shard, recipe, view, each)
    how = mixture(recipe, view, str(shard.keys[row]), str(shard.keys[partner]))
    return mix(known[row], known[partner], how), how.share


def rendered(
    load: Load,
    shard: Shard,
    recipe: ViewRecipe,
    sizes: Mapping[int, Collection[int]],
    partner: Mapping[int, np.ndarray | None],
    rows: Iterable[int],
    *,
    threads: int,
    block: int,
) -> Iterator[tuple[np.ndarray, Images]]:
    """All views of some rows, rendered by threads ahead of the consumer; each image is loaded once.

    Blocks hold the same rows in the same order on every run. Rows that are mixed wait for their partners, so the
    order is not that of `rows`. What waits are rendered views, never images: two rows for one or two mixed views,
    about 0.4 of all for four (63 MB for 256 rows at 224 px), so at most N * views * 3 S^2 bytes; beside them stand
    AHEAD + 1 blocks.

    Args:
        sizes: by view, the sides that are wanted; a view without any is not rendered, and a call without any side
            at all loads nothing.
        partner: by view, int32 [N] from `stored_partners`; None or missing: not mixed.
        rows: rows to yield; partners beside them are loaded too.
        threads: that load and render.
        block: rows of a block, but for the last.

    Yields:
        int64 [B] rows, and every wanted (view, side).

    Raises:
        Whatever `load` raises, as it was, without waiting for the blocks behind it.
    """
    wanted = {view: tuple(sides) for view, sides in sizes.items() if sides}
    mixed = {view: found for view in wanted if (found := partner.get(view)) is not None}
    plan = _plan([int(row) for row in rows], list(mixed.values()))
    work = _Work(load, shard, recipe, wanted, mixed, plan)
    started: deque[_Block] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="views")
    try:
        for start in range(0, len(plan.rows), block):
            started.append(work.start(pool, plan.rows[start : start + block]))
            if len(started) > AHEAD:
                yield work.finish(started.popleft())
        while started:
            yield work.finish(started.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Plan:
    rows: list[int]  # in the order in which they are complete
    loads: list[int]  # rows that are mixed and their partners, in the order of loading
    due: dict[int, int]  # how many loads a row of `rows` needs before it


@dataclass(frozen=True)
class _Block:
    rows: list[int]
    images: Images
    tasks: list[Future[None]]


class _Work:
    """The threads' side of `rendered`: what is loaded, what is held, and until when."""

    def __init__(
        self,
        load: Load,
        shard: Shard,
        recipe: ViewRecipe,
        sizes: Mapping[int, Sequence[int]],
        partner: Mapping[int, np.ndarray],
        plan: _Plan,
    ) -> None:
        self.load, self.shard, self.recipe = load, shard, recipe
        self.sizes, self.partner, self.plan = sizes, partner, plan
        self.errors: list[BaseException] = []
        self._loading: dict[int, Future[None]] = {}
        self._held: dict[tuple[int, int], np.ndarray] = {}
        # Rendered views of mixed rows, each with the number of rows of the stream that show it.
        self._uses = Counter((each, view) for row in plan.due for view in sizes for each in self._shown(row, view))
        self._views: defaultdict[int, list[int]] = defaultdict(list)
        for row, view in self._uses:
            self._views[row].append(view)

    def start(self, pool: ThreadPoolExecutor, rows: list[int]) -> _Block:
        """Submit a block to the pool; a row comes after all that it is mixed from, so no task waits for a later one."""
        images = {
            (view, side): np.empty((len(rows), side, side, 3), dtype=np.uint8)
            for view, sides in self.sizes.items()
            for side in sides
        }
        tasks = []
        for slot, row in enumerate(rows):
            for other in self.plan.loads[len(self._loading) : self.plan.due.get(row, 0)]:
                self._loading[other] = pool.submit(self._guard, self._hold, other)
            tasks.append(pool.submit(self._guard, self._place, row, slot, images))
        return _Block(rows, images, tasks)

    def finish(self, block: _Block) -> tuple[np.ndarray, Images]:
        """Wait for a block, and free the views that no later one needs."""
        wait(block.tasks, return_when=FIRST_EXCEPTION)
        if self.errors:
            raise self.errors[0]
        for row in block.rows:
            for view in self.sizes if row in self.plan.due else ():
                for each in self._shown(row, view):
                    self._uses[each, view] -= 1
                    if not self._uses[each, view]:
                        del self._held[each, view]
        return np.array(block.rows, dtype=np.int64), block.images

    def _shown(self, row: int, view: int) -> tuple[int, ...]:
        other = int(self.partner[view][row]) if view in self.partner else NO_PARTNER
        return (row,) if other == NO_PARTNER else (row, other)

    def _guard(self, task: Callable[..., None], *args: object) -> None:
        try:
            task(*args)
        except BaseException as error:
            self.errors.append(error)
            raise

    def _hold(self, row: int) -> None:
        image = self.load(row)
        for view in self._views[row]:
            self._held[row, view] = self._alone(image, view, row)

    def _place(self, row: int, slot: int, images: Images) -> None:
        image = self.load(row) if row not in self.plan.due and self.sizes else None
        for view, sides in self.sizes.items():
            picture = self._mixed(row, view) if image is None else self._alone(image, view, row)
            for side in sides:
                images[view, side][slot] = picture if side == len(picture) else resize(picture, side)

    def _alone(self, image: np.ndarray, view: int, row: int) -> np.ndarray:
        return _alone(image, self.shard, self.recipe, view, row)

    def _mixed(self, row: int, view: int) -> np.ndarray:
        shown = self._shown(row, view)
        for each in shown:
            self._loading[each].result()
        own = self._held[row, view]
        if len(shown) == 1:
            return own
        how = mixture(self.recipe, view, *(str(self.shard.keys[each]) for each in shown))
        return mix(own, self._held[shown[1], view], how)


def _alone(image: np.ndarray, shard: Shard, recipe: ViewRecipe, view: int, row: int) -> np.ndarray:
    return render(image, recipe, draw(recipe, view, str(shard.keys[row])))


def _plan(rows: list[int], mixed: Sequence[np.ndarray]) -> _Plan:
    """Load next the row that most loaded ones are tied to, so that few wait (after Cuthill and McKee, 1969)."""
    ties = {row: {int(p[row]) for p in mixed} - {NO_PARTNER} for row in rows}
    near: defaultdict[int, set[int]] = defaultdict(set)
    for row, others in ties.items():
        for other in others:
            near[row].add(other)
            near[other].add(row)
    loads: dict[int, int] = {}  # row to how many are loaded with it
    tied: Counter[int] = Counter()
    heap = [(0, row) for row in rows if near[row]]
    heapq.heapify(heap)
    while heap:
        count, row = heapq.heappop(heap)
        if row in loads or -count != tied[row]:
            continue
        loads[row] = len(loads) + 1
        for other in near[row] - loads.keys():
            tied[other] += 1
            heapq.heappush(heap, (-tied[other], other))
    due = {row: max(loads[each] for each in (row, *others)) for row, others in ties.items() if others}
    return _Plan(sorted(rows, key=lambda row: due.get(row, 0)), list(loads), due)
