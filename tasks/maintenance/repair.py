"""Repair: what verify finds broken is made again, byte for byte, where something in reach says how.

Shards, catalogs and indexes come from the source; heads and `_info.json` from manifests. What other stages made
(soft labels, models, reports) is removed where it is damaged: the next run of the line sees that it is missing
and makes exactly that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from infra.compute.cluster import Cluster
from infra.errors import StillroomError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.weights import DEPOSITED
from tasks.ingest.glance import Glance
from tasks.ingest.parent import read_head, write_head
from tasks.ingest.shard import STAGE as INGEST
from tasks.maintenance.actions import LEFT, OWED, REBUILT, REMOVED, RESTORED, Action, Repaired
from tasks.maintenance.holdings import HEADS, MANIFESTS, UNITS, Dossier, Holdings, look_into
from tasks.maintenance.info import derived, info_defects, shard_folder_of
from tasks.maintenance.rebuild import Rebuild
from tasks.maintenance.verdict import Defect
from tasks.maintenance.verify import verify

AGAIN = "the next stillroom retrain SPEC makes it again"


def repair(
    store: Store,
    cluster: Cluster,
    *,
    root: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Verify a store and make whole what can be.

    Args:
        root: where the corpus lies, when it is no longer where the last ingest found it; for one broken corpus.
        progress: of the verification, as there.

    Raises:
        UsageError: `root` is given and several corpora are broken.
    """
    defects = verify(store, progress=progress).defects
    work = _Repair(store, cluster, root, {defect.object: defect for defect in defects})
    if defects:
        work.run()
    return Repaired(defects, tuple(sorted(work.actions.values(), key=lambda a: a.object)))


@dataclass
class _Repair:
    store: Store
    cluster: Cluster
    root: str | None
    defects: dict[str, Defect]
    actions: dict[str, Action] = field(default_factory=dict)

    def run(self) -> None:
        self._documents()
        held = look_into(self.store)
        self._heads(held)
        heads = dict(look_into(self.store).current)
        self._outputs(held)
        # Making an older manifest's tables again moves the head to it.
        for title, manifest in heads.items():
            now = read_head(self.store, title)
            if now is None or now.digest != manifest.digest:
                write_head(self.store, title, self._manifest(manifest))
        self._infos()
        for name, defect in self.defects.items():
            if name.startswith(DEPOSITED):
                self.store.delete(name)
                self._note(name, REMOVED, "the next labelling copies the teacher's file again")
            elif name not in self.actions:
                self._note(name, LEFT, defect.detail)

    def _note(self, name: str, action: str, detail: str) -> None:
        self.actions[name] = Action(name, action, detail)

    def _manifest(self, dossier: Dossier) -> Manifest:
        return Manifest.from_bytes(self.store.get(dossier.name), dossier.name)

    def _documents(self) -> None:
        """Unit records are hints, and a manifest that cannot be read says nothing: both go."""
        for name in look_into(self.store).broken:
            if name.startswith(UNITS):
                self.store.delete(name)
                self._note(name, REMOVED, "a hint that only spares a killed run work")
            elif name.startswith(MANIFESTS):
                self.store.delete(name)
                again = (
                    "stillroom ingest SPEC" if name.startswith(f"{MANIFESTS}{INGEST}/") else "stillroom retrain SPEC"
                )
                self._note(name, REMOVED, f"what it named is still there; {again} writes it again")

    def _heads(self, held: Holdings) -> None:
        for name in [n for n in self.defects if n.startswith(HEADS)]:
            title = name.removeprefix(HEADS)
            meant = _head_of(self.store, held, title)
            if meant is None:
                self._note(name, LEFT, "which manifest it meant is lost; stillroom ingest SPEC makes it again")
                continue
            write_head(self.store, title, self._manifest(meant))
            self._note(name, RESTORED, f"points at {meant.about} again")

    def _outputs(self, held: Holdings) -> None:
        owners = {p.name: m for m in held.manifests.values() for p in m.outputs if p.name in self.defects}
        ingests = [m for m in held.manifests.values() if m.stage == INGEST]
        broken = [m for m in ingests if any(p.name in self.defects for p in m.outputs)]
        manifests = [self._manifest(m) for m in _oldest_first(broken)]
        titles = {manifest.facts["corpus"] for manifest in manifests}
        if self.root is not None and len(titles) > 1:
            raise UsageError(f"--root is for one corpus, and several are broken: {', '.join(sorted(titles))}")
        for manifest in manifests:
            self._tables(manifest)
        # The newest manifest knows all shards of those before it.
        for manifest in reversed(manifests):
            self._shards(manifest)
        for name, owner in owners.items():
            if owner.stage != INGEST:
                self._give_up(name, owner)

    def _tables(self, manifest: Manifest) -> None:
        lost = [o for o in manifest.outputs if o.meta["kind"] != "shard" and self._open(o.name)]
        if not lost:
            return
        shards = [o for o in manifest.outputs_where(kind="shard") if self._open(o.name)]
        try:
            Rebuild(self.store, self.cluster, manifest, self.root).tables()
        except (StillroomError, OSError) as error:
            for output in lost:
                self._note(output.name, LEFT, str(error))
        else:
            for output in (*lost, *shards):
                self._note(output.name, REBUILT, "from the source, the same bytes")

    def _shards(self, manifest: Manifest) -> None:
        lost = [o for o in manifest.outputs_where(kind="shard") if self._open(o.name)]
        if not lost:
            return
        try:
            for output, error in Rebuild(self.store, self.cluster, manifest, self.root).shards(lost):
                if error is None:
                    self._note(output.name, REBUILT, "from the source, the same bytes")
                else:
                    self._note(output.name, LEFT, str(error))
        except (StillroomError, OSError) as error:
            for output in lost:
                if output.name not in self.actions:
                    self._note(output.name, LEFT, str(error))

    def _open(self, name: str) -> bool:
        """Whether it is broken and not mended yet."""
        done = self.actions.get(name)
        return name in self.defects and (done is None or done.action == LEFT)

    def _give_up(self, name: str, owner: Dossier) -> None:
        if self.defects[name].kind == "missing":
            self._note(name, OWED, f"of {owner.about}; {AGAIN}")
            return
        self.store.delete(name)
        self._note(name, REMOVED, f"of {owner.about}; {AGAIN}")

    def _infos(self) -> None:
        held = look_into(self.store)
        for name, _, _ in list(info_defects(self.store, held)):
            folder = name.rpartition("/")[0]
            own = [m for m in held.manifests.values() if shard_folder_of(m) == folder]
            current = [m for m in held.current.values() if m in own] or _oldest_first(own)[-1:]
            self.store.put(name, derived(self.store, current[0]))
            self._note(name, RESTORED, f"from {current[0].about}")


def _head_of(store: Store, held: Holdings, title: str) -> Dossier | None:
    """What a lost head pointed at: what the last ingest says it made, else the newest manifest that is whole.

    From an older one the next ingest goes on, and finds again what came after.
    """
    own = [m for m in held.manifests.values() if m.stage == INGEST and m.corpus == title]
    seen = Glance.load(store, title)
    exact = [m for m in own if seen is not None and m.digest == seen.digest]
    parents = {m.parent for m in own}
    last = [m for m in own if m.key not in parents]
    return exact[0] if exact else last[0] if len(last) == 1 else None


def _oldest_first(manifests: Iterable[Dossier]) -> list[Dossier]:
    """Parents before children, as far as the chain between them is among the given ones."""
    by_key = {m.key: m for m in manifests}

    def depth(manifest: Dossier) -> int:
        steps = 0
        while manifest.parent in by_key:
            manifest, steps = by_key[manifest.parent], steps + 1
        return steps

    return sorted(by_key.values(), key=lambda m: (depth(m), m.name))
