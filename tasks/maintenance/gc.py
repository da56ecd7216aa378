"""Garbage collection: remove what no root leads to, manifests first, then objects.

A store is shared with runs that may be writing, so whatever is young stays: a manifest, object or record younger
than the grace; work that no manifest names yet (unit records with their objects, checkpoints) as long as the
record of a run would be kept. Only a run that is under way and takes up work that nothing led to for longer than
that can lose it: delete while no such run is going on. Where a head, a manifest or the record of a run is damaged
nothing is removed at all, because what it leads to cannot be known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from infra.compute.cluster import cores
from infra.storage.store import Store
from tasks.data.weights import TEACHER_FILES
from tasks.maintenance.reachability import head_digests, reachable, registered_digests, run_manifests
from tasks.maintenance.store_contents import INFO, MANIFESTS, RUNS, THREADS_A_CORE, UNITS, read_contents

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
    progress: Callable[[int, int], None] | None = None,
) -> RemovalPlan:
    """Find what neither a head, nor a registered version, nor a recent run leads to; with `delete` remove it.

    Args:
        folders: that stages write outputs to; whatever lies elsewhere is never touched.
        keep_days: runs younger than that, finished or not, keep what they made.
        grace_hours: nothing younger than that goes.
        registry: ask MLflow which versions are registered.
        progress: called with (removed, to remove).

    Raises:
        CorruptError: a head, a manifest or a run's record is damaged; nothing was removed.
        PermanentError: MLflow cannot be read.
    """
    contents = read_contents(store)
    for name, error in contents.broken.items():
        if not name.startswith(UNITS):
            raise error
    ages = store.ages("")
    grace, recent = grace_hours * HOUR, max(grace_hours * HOUR, keep_days * DAY)

    def young(name: str, limit: float) -> bool:
        return ages.get(name, 0.0) < limit

    runs = [name for name in contents.under(RUNS) if young(name, recent)]
    roots = [
        *head_digests(contents),
        *run_manifests(store, runs),
        *(name for name in contents.manifests if young(name, grace)),
    ]
    if registry:
        roots += registered_digests(contents)
    manifests = reachable(contents, roots)
    named = {expected.name for name in manifests for expected in contents.manifests[name].outputs}
    units = {name for name, objects in contents.units.items() if objects and named.issuperset(objects)}
    units |= {name for name in contents.units if young(name, recent)}
    named |= {name for unit in units for name in contents.units[unit]}
    trained = {manifest.key for manifest in contents.manifests.values()}
    digests = frozenset[str]().union(*(contents.manifests[name].refers for name in manifests))
    in_use = {name.rpartition("/")[0] for name in named}

    def stays(name: str) -> bool:
        if name.startswith(MANIFESTS):
            return name in manifests
        if name.startswith(UNITS):
            return name in units
        if name.startswith(RUNS):
            return young(name, recent)
        if name.startswith(CHECKPOINTS):
            return young(name, recent) and name.split("/")[1] not in trained
        if name.endswith(f"/{INFO}") and name.startswith("shards/"):
            return name.rpartition("/")[0] in in_use
        if name.startswith(TEACHER_FILES):
            return name.removeprefix(TEACHER_FILES).partition(".")[0] in digests or young(name, recent)
        return name in named or not (name.startswith(tuple(folders)) and _OURS.search(name))

    gone = [name for name in sorted(contents.sizes) if not stays(name) and not young(name, grace)]
    items = [Removable(name, name.partition("/")[0], contents.sizes[name]) for name in gone]
    items.sort(key=lambda item: _rank(item.name))
    leftovers = tuple(store.abandoned(grace))
    if delete:
        _remove(store, [item.name for item in items], progress or (lambda done, total: None))
        store.sweep(grace)
    left = contents.sizes.keys() - set(gone)
    return RemovalPlan(tuple(items), leftovers, len(left), sum(contents.sizes[name] for name in left), delete)


def _rank(name: str) -> int:
    return 0 if name.startswith(MANIFESTS) else 1 if name.startswith((UNITS, RUNS)) else 2


def _remove(store: Store, names: list[str], progress: Callable[[int, int], None]) -> None:
    """Manifests before what they name, so that a crash leaves none without its objects."""
    done = 0
    for rank in range(3):
        with ThreadPoolExecutor(cores() * THREADS_A_CORE) as pool:
            for _ in pool.map(store.delete, [name for name in names if _rank(name) == rank]):
                done += 1
                progress(done, len(names))
