"""Garbage collection: remove what no root leads to, manifests first, then objects.

A store is shared with runs that may be writing. So whatever is young stays: a manifest, object or record younger
than the grace; work that no manifest names yet (unit records with their objects, checkpoints) as long as the
record of a run would be kept. While a run is under way nothing is removed at all, and before each removal it is asked
anew whether a run has started, whether a head, manifest or record was written, and whether the object is still old
(`tasks/maintenance/under_way.py`). Where a head, a manifest or the record of a run is damaged nothing is removed,
because what it leads to cannot be known.
"""

from __future__ import annotations

import math
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from infra.compute.cluster import cores
from infra.storage.store import Store
from tasks.data.weights import TEACHER_FILES
from tasks.maintenance.reachability import head_digests, reachable, registered_digests, run_manifests
from tasks.maintenance.store_contents import HEADS, INFO, MANIFESTS, THREADS_A_CORE, UNITS, read_contents
from tasks.maintenance.under_way import COLLECTIONS, RUNS, collecting, runs_under_way

HOUR, DAY = 3600.0, 86400.0
CHECKPOINTS = "checkpoints/"


# Stages write a digest into every name; a file that a user added has none.
_OURS = re.compile(r"(^|[-/.])[0-9a-f]{8,64}\.[a-z0-9]+$")
_LEFTOVERS = "leftovers"


class Removable(NamedTuple):
    """One object that may be removed."""

    name: str
    kind: str  # manifests, runs, units, checkpoints or the folder of the object
    bytes: int


@dataclass(frozen=True)
class RemovalPlan:
    """What is removed, in order of removal, and what is kept."""

    items: tuple[Removable, ...]
    leftovers: tuple[str, ...]  # incomplete files of writers that died
    kept_objects: int
    kept_bytes: int
    deleted: bool
    under_way: tuple[str, ...] = ()  # records of runs for which nothing, or nothing more, was removed

    @property
    def kinds(self) -> dict[str, dict[str, int]]:
        """Kind to {objects, bytes}."""
        found: dict[str, dict[str, int]] = defaultdict(lambda: {"objects": 0, "bytes": 0})
        for item in self.items:
            found[item.kind]["objects"] += 1
            found[item.kind]["bytes"] += item.bytes
        if self.leftovers:
            found[_LEFTOVERS] = {"objects": len(self.leftovers), "bytes": 0}
        return dict(found)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "deleted": self.deleted,
            "kinds": self.kinds,
            "items": [item._asdict() for item in self.items],
            "leftovers": list(self.leftovers),
            "bytes": sum(item.bytes for item in self.items),
            "under_way": list(self.under_way),
            "kept": {"objects": self.kept_objects, "bytes": self.kept_bytes},
        }


def collect(
    store: Store,
    *,
    folders: Sequence[str],
    keep_days: float = 14,
    grace_hours: float = 24,
    delete: bool = False,
    registry: bool = True,
    versions_deleted: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RemovalPlan:
    """Find what neither a head, nor a registered version, nor a recent run leads to; with `delete` remove it.

    Args:
        folders: that stages write outputs to; whatever lies elsewhere is never touched.
        keep_days: runs younger than that, finished or not, keep what they made.
        grace_hours: nothing younger than that goes.
        registry: ask MLflow which versions are registered.
        versions_deleted: versions that MLflow does not know were deleted there on purpose.
        progress: called with (removed, to remove).

    Returns:
        What would go; with `delete` what went, which is less where a run was under way or started meanwhile.

    Raises:
        CorruptError: a head, a manifest or a run's record is damaged; nothing was removed.
        PermanentError: MLflow cannot be read, or does not know what this store registered.
    """
    rules = _Rules(tuple(folders), keep_days * DAY, grace_hours * HOUR, registry, versions_deleted)
    found = _survey(store, rules)
    leftovers = tuple(store.abandoned(rules.grace))
    if not delete:
        return _plan(found, found.items, leftovers, runs_under_way(store), deleted=False)
    with collecting(store):
        removal = _Removal(store, rules, found)
        removed = removal.run(progress or (lambda done, total: None))
        if not removal.under_way:
            store.sweep(rules.grace)
    return _plan(found, removed, () if removal.under_way else leftovers, removal.under_way, deleted=True)


@dataclass(frozen=True)
class _Rules:
    folders: tuple[str, ...]
    keep: float  # seconds
    grace: float  # seconds
    registry: bool
    versions_deleted: bool

    @property
    def recent(self) -> float:
        """Seconds for which a run keeps what it made."""
        return max(self.grace, self.keep)


@dataclass(frozen=True)
class _Survey:
    """What may go, in order of removal, and what the store looked like when that was found out."""

    items: tuple[Removable, ...]
    limits: Mapping[str, float]  # name to the age in seconds above which it may go
    sizes: Mapping[str, int]
    roots: Mapping[str, str]  # what decides over reachability, as `_roots` told it before anything was read


def _roots(store: Store) -> dict[str, str]:
    """Stamps of all that decides what can be reached."""
    return {name: stamp for folder in (HEADS, MANIFESTS, RUNS) for name, stamp in store.stamps(folder).items()}


def _survey(store: Store, rules: _Rules) -> _Survey:
    roots = _roots(store)
    contents = read_contents(store)
    for name, error in contents.broken.items():
        if not name.startswith(UNITS):
            raise error
    ages = store.ages("")

    def young(name: str, limit: float) -> bool:
        return ages.get(name, 0.0) < limit

    runs = [name for name in contents.under(RUNS) if young(name, rules.recent)]
    starts = [
        *head_digests(contents),
        *run_manifests(store, runs),
        *(name for name in contents.manifests if young(name, rules.grace)),
    ]
    if rules.registry:
        starts += registered_digests(store, contents, versions_deleted=rules.versions_deleted)
    manifests = reachable(contents, starts)
    named = {expected.name for name in manifests for expected in contents.manifests[name].outputs}
    units = {name for name, objects in contents.units.items() if objects and named.issuperset(objects)}
    units |= {name for name in contents.units if young(name, rules.recent)}
    named |= {name for unit in units for name in contents.units[unit]}
    trained = {manifest.key for manifest in contents.manifests.values()}
    digests = frozenset[str]().union(*(contents.manifests[name].refers for name in manifests))
    in_use = {name.rpartition("/")[0] for name in named}

    def limit(name: str) -> float | None:
        """Age above which an object may go; None where it stays whatever its age."""
        if name.startswith(MANIFESTS):
            return None if name in manifests else rules.grace
        if name.startswith(UNITS):
            return None if name in units else rules.recent
        if name.startswith(RUNS):
            return rules.recent
        if name.startswith(COLLECTIONS):
            return rules.grace
        if name.startswith(CHECKPOINTS):
            return rules.grace if name.split("/")[1] in trained else rules.recent
        if name.endswith(f"/{INFO}") and name.startswith("shards/"):
            return None if name.rpartition("/")[0] in in_use else rules.grace
        if name.startswith(TEACHER_FILES):
            return None if name.removeprefix(TEACHER_FILES).partition(".")[0] in digests else rules.recent
        ours = name.startswith(rules.folders) and _OURS.search(name)
        return rules.grace if ours and name not in named else None

    limits = {name: found for name in sorted(contents.sizes) if (found := limit(name)) is not None}
    items = [
        Removable(name, name.partition("/")[0], contents.sizes[name])
        for name, least in limits.items()
        if not young(name, least)
    ]
    items.sort(key=lambda item: _rank(item.name))
    return _Survey(tuple(items), limits, contents.sizes, roots)


def _plan(
    found: _Survey, items: Sequence[Removable], leftovers: tuple[str, ...], under_way: list[str], *, deleted: bool
) -> RemovalPlan:
    left = found.sizes.keys() - {item.name for item in items}
    kept = sum(found.sizes[name] for name in left)
    return RemovalPlan(tuple(items), leftovers, len(left), kept, deleted, tuple(under_way))


class _Removal:
    """Removes what a survey found, as long as it still holds."""

    def __init__(self, store: Store, rules: _Rules, found: _Survey) -> None:
        self._store, self._rules, self._found = store, rules, found
        self._still = {item.name for item in found.items}
        self._lock = threading.Lock()
        # Asked once the mark lies there: a run that begins later waits.
        self.under_way = runs_under_way(store)

    def run(self, progress: Callable[[int, int], None]) -> list[Removable]:
        """Manifests before what they name, so that a crash leaves none without its objects; returns what went."""
        removed: list[Removable] = []
        items = self._found.items
        for rank in range(3):
            with ThreadPoolExecutor(cores() * THREADS_A_CORE) as pool:
                some = [item for item in items if _rank(item.name) == rank]
                for item, went in zip(some, pool.map(self._remove, some), strict=True):
                    removed += [item] if went else []
                    progress(len(removed), len(items))
        return removed

    def _remove(self, item: Removable) -> bool:
        if not self._may_go(item.name):
            return False
        self._store.delete(item.name)
        return True

    def _may_go(self, name: str) -> bool:
        """Whether nothing leads to it now, and it was not written again."""
        with self._lock:
            if self.under_way:
                return False
            now = _roots(self._store)
            if any(self._found.roots.get(root) != stamp for root, stamp in now.items()):
                self.under_way = runs_under_way(self._store)
                if self.under_way:
                    return False
                self._found = _survey(self._store, self._rules)
                self._still &= {item.name for item in self._found.items}
        age = self._store.age(name)
        return name in self._still and age is not None and age >= self._found.limits.get(name, math.inf)


def _rank(name: str) -> int:
    return 0 if name.startswith(MANIFESTS) else 1 if name.startswith((UNITS, RUNS)) else 2
