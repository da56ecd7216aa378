"""Verify: every object of a store against what names it.

Each object is read once, in blocks, several at a time; only a shard that is damaged is looked into further.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.cluster import cores
from infra.errors import CorruptError, StillroomError
from infra.storage.manifest import Manifest
from infra.storage.store import MissingObjectError, Store
from tasks.data.catalog import from_parquet
from tasks.data.weights import DEPOSITED
from tasks.maintenance.damage import BLOCK, shard_damage
from tasks.maintenance.holdings import HEADS, MANIFESTS, RUNS, UNITS, Dossier, Holdings, Promise, dossier_of, look_into
from tasks.maintenance.info import INFO, info_defects, shard_folder_of
from tasks.maintenance.verdict import BYTES, HEAD, MANIFEST, MISSING, SIZE, Findings, Verdict

Progress = Callable[[int, int], None]

BESIDE = (MANIFESTS, HEADS, UNITS, RUNS, "listings/", "secrets/", "checkpoints/", "engines/", DEPOSITED)
"""Folders whose objects no manifest names."""


def verify(store: Store, *, manifests: Iterable[Manifest] | None = None, progress: Progress | None = None) -> Verdict:
    """Hold a store against its manifests.

    Args:
        manifests: look at the outputs of these alone; default: all manifests, heads, unit records, outputs and
            `_info.json` files of the store.
        progress: called with (bytes read, bytes to read).
    """
    return _Check(store, progress or (lambda done, total: None)).run(manifests)


class _Check:
    def __init__(self, store: Store, progress: Progress) -> None:
        self.store, self.progress = store, progress
        self.found = Findings()
        self.table = lru_cache(maxsize=1)(self._index)

    def run(self, manifests: Iterable[Manifest] | None) -> Verdict:
        if manifests is not None:
            self._outputs({m.name: dossier_of(m) for m in manifests}, self.store.sizes(""))
            return self.found.closed({})
        held = look_into(self.store)
        self._documents(held)
        self._deposited(held)
        named = self._outputs(held.manifests, held.sizes)
        for name, kind, detail in info_defects(self.store, held):
            self.found.blame(name, kind, detail)
        infos = {f"{shard_folder_of(m)}/{INFO}" for m in held.manifests.values()} & held.sizes.keys()
        self.found.objects += len(infos)
        strays = {n: s for n, s in held.sizes.items() if not (n in named or n in infos or n.startswith(BESIDE))}
        return self.found.closed(strays)

    def _documents(self, held: Holdings) -> None:
        for name, error in held.broken.items():
            kind = MANIFEST if name.startswith(MANIFESTS) else HEAD if name.startswith(HEADS) else BYTES
            self.found.blame(name, kind, _told(error, name))
        for head in held.heads.values():
            name, manifest = HEADS + head.title, held.manifests.get(head.target)
            if manifest is None:
                state = "damaged" if head.target in held.broken else "not there"
                self.found.blame(name, HEAD, f"points at {head.target}, which is {state}")
            elif manifest.digest != head.digest:
                self.found.blame(name, HEAD, f"points at {head.target} with another digest than it has")
        read = [*held.manifests, *(HEADS + h.title for h in held.heads.values()), *held.units, *held.broken]
        self.found.objects += len(read)
        self.found.bytes += sum(held.sizes.get(name, 0) for name in read)

    def _deposited(self, held: Holdings) -> None:
        """Files of teachers: each is named by its digest."""
        for name in held.under(DEPOSITED):
            self.found.objects += 1
            self.found.bytes += held.sizes[name]
            if _sha256(self.store, name) != name.removeprefix(DEPOSITED).partition(".")[0]:
                self.found.blame(name, BYTES, "bytes are not those of its name (file of a teacher)")

    def _outputs(self, manifests: dict[str, Dossier], sizes: dict[str, int]) -> set[str]:
        """Look at each output once; returns all their names."""
        owners: dict[str, tuple[Promise, Dossier]] = {}
        for manifest in manifests.values():
            for promise in manifest.outputs:
                known = owners.setdefault(promise.name, (promise, manifest))[0]
                if (known.bytes, known.sha256) != (promise.bytes, promise.sha256):
                    self.found.blame(manifest.name, MANIFEST, f"promises other bytes of {promise.name} than another")
        total = sum(promise.bytes for promise, _ in owners.values())
        done = 0
        # Largest first, so that no thread is left alone with a large object at the end.
        order = sorted(owners.values(), key=lambda pair: (-pair[0].bytes, pair[0].name))
        with ThreadPoolExecutor(2 * cores()) as pool:
            problems = pool.map(lambda pair: self._look(pair[0], sizes), order)
            for (promise, manifest), problem in zip(order, problems, strict=True):
                done += promise.bytes
                self.found.objects += 1
                self.found.bytes += promise.bytes
                if problem is not None:
                    self._explain(
                        promise, [manifest, *(m for m in manifests.values() if promise in m.outputs)], *problem
                    )
                self.progress(done, total)
        return set(owners)

    def _look(self, promise: Promise, sizes: dict[str, int]) -> tuple[str, str] | None:
        """Kind and detail of what is wrong with an object."""
        size = sizes.get(promise.name)
        if size is None:
            return MISSING, "not there"
        if size != promise.bytes:
            return SIZE, f"{size} bytes instead of {promise.bytes}"
        try:
            if _sha256(self.store, promise.name) == promise.sha256:
                return None
        except MissingObjectError:
            return MISSING, "not there"
        except (CorruptError, OSError) as error:
            return BYTES, f"cannot be read: {error}"
        return BYTES, "bytes are not those written"

    def _explain(self, promise: Promise, owners: list[Dossier], kind: str, detail: str) -> None:
        if promise.kind != "shard":
            what = f"{promise.kind} of {owners[0].about}" if promise.kind else owners[0].about
            self.found.blame(promise.name, kind, f"{detail} ({what})")
            return
        rows = self._rows(promise, owners)
        if rows is None:
            self.found.blame(promise.name, kind, f"{detail}; its index is lost too, so no samples can be named")
            return
        keys: tuple[str, ...] = tuple(rows["key"].to_pylist())
        if kind != MISSING:
            try:
                there = self.store.sizes(promise.name)[promise.name]
                damage = shard_damage(self.store, promise.name, there, rows, promise.bytes)
                keys, detail = tuple(damage.samples), f"{detail}; {damage.detail}"
            except (StillroomError, OSError, KeyError) as error:
                detail = f"{detail}; {error}"
        self.found.blame(promise.name, kind, detail, keys)

    def _rows(self, promise: Promise, owners: list[Dossier]) -> pa.Table | None:
        """The shard's rows in the first index of its manifests that is whole."""
        for owner in owners:
            number = [p.name for p in owner.outputs if p.kind == "shard"].index(promise.name)
            for index in (p for p in owner.outputs if p.kind == "index"):
                with suppress(StillroomError, OSError, pa.ArrowException):
                    table = self.table(index)
                    return table.filter(pc.equal(table["shard"], number))
        return None

    def _index(self, promise: Promise) -> pa.Table:
        if _sha256(self.store, promise.name) != promise.sha256:
            raise CorruptError(f"{promise.name} is damaged itself")
        return from_parquet(self.store.get(promise.name))


def _sha256(store: Store, name: str) -> str:
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    with store.open(name, cached=False) as stream:
        while size := stream.readinto(buffer):  # type: ignore[attr-defined]
            hasher.update(buffer[:size])
    return hasher.hexdigest()


def _told(error: CorruptError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ").partition(";")[0]
