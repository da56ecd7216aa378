"""Repair: make what verify finds broken again with the same bytes, where its source is available.

Shards, catalogs and indexes come from the source; heads and `_info.json` from manifests. What other stages made
(soft labels, models, reports) is removed where it is damaged: the next run of the line sees that it is missing
and makes exactly that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from infra.compute.cluster import Cluster
from infra.errors import StillroomError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.weights import TEACHER_FILES
from tasks.ingest.parent import read_head, write_head
from tasks.ingest.shard import STAGE as INGEST
from tasks.ingest.source_fingerprint import SourceFingerprint
from tasks.maintenance.rebuild import Rebuild
from tasks.maintenance.store_contents import HEADS, MANIFESTS, UNITS, ManifestSummary, StoreContents, read_contents
from tasks.maintenance.verify import Defect, expected_info, info_defects, shard_folder_of, verify

AGAIN = "the next stillroom retrain SPEC makes it again"
REBUILT, RESTORED, REMOVED, PENDING, LEFT = "rebuilt", "restored", "removed", "owed", "left"


@dataclass(frozen=True)
class RepairAction:
    """What was done about one object."""

    object: str
    action: str  # rebuilt, restored, removed, owed (missing; the next run makes it) or left (broken as before)
    detail: str

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"object": self.object, "action": self.action, "detail": self.detail}


@dataclass(frozen=True)
class RepairReport:
    """What was broken, and what was done about it."""

    defects: tuple[Defect, ...]
    actions: tuple[RepairAction, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing was left broken."""
        return not any(action.action == LEFT for action in self.actions)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "whole": self.whole,
            "defects": [defect.to_json() for defect in self.defects],
            "actions": [action.to_json() for action in self.actions],
        }


def repair(
    store: Store,
    cluster: Cluster,
    *,
    root: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RepairReport:
    """Verify a store and repair what can be repaired.

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
    return RepairReport(defects, tuple(sorted(work.actions.values(), key=lambda a: a.object)))


@dataclass
class _Repair:
    store: Store
    cluster: Cluster
    root: str | None
    defects: dict[str, Defect]
    actions: dict[str, RepairAction] = field(default_factory=dict)

    def run(self) -> None:
        self._documents()
        contents = read_contents(self.store)
        self._heads(contents)
        heads = dict(read_contents(self.store).current)
        self._outputs(contents)
        # Making an older manifest's tables again moves the head to it.
        for title, manifest in heads.items():
            now = read_head(self.store, title)
            if now is None or now.digest != manifest.digest:
                write_head(self.store, title, self._manifest(manifest))
        self._infos()
        for name, defect in self.defects.items():
            if name.startswith(TEACHER_FILES):
                self.store.delete(name)
                self._note(name, REMOVED, "the next labelling copies the teacher's file again")
            elif name not in self.actions:
                self._note(name, LEFT, defect.detail)

    def _note(self, name: str, action: str, detail: str) -> None:
        self.actions[name] = RepairAction(name, action, detail)

    def _manifest(self, summary: ManifestSummary) -> Manifest:
        return Manifest.from_bytes(self.store.get(summary.name), summary.name)

    def _documents(self) -> None:
        """Remove unit records and manifests that cannot be read."""
        for name in read_contents(self.store).broken:
            if name.startswith(UNITS):
                self.store.delete(name)
                self._note(name, REMOVED, "a hint that only spares a killed run work")
            elif name.startswith(MANIFESTS):
                self.store.delete(name)
                again = (
                    "stillroom ingest SPEC" if name.startswith(f"{MANIFESTS}{INGEST}/") else "stillroom retrain SPEC"
                )
                self._note(name, REMOVED, f"what it named is still there; {again} writes it again")

    def _heads(self, contents: StoreContents) -> None:
        for name in [n for n in self.defects if n.startswith(HEADS)]:
            title = name.removeprefix(HEADS)
            meant = _head_of(self.store, contents, title)
            if meant is None:
                self._note(name, LEFT, "which manifest it meant is lost; stillroom ingest SPEC makes it again")
                continue
            write_head(self.store, title, self._manifest(meant))
            self._note(name, RESTORED, f"points at {meant.about} again")

    def _outputs(self, contents: StoreContents) -> None:
        # Shards are in manifests of training sets too, but their ingest makes them again.
        by_ingest_last = sorted(contents.manifests.values(), key=lambda m: m.stage == INGEST)
        owners = {p.name: m for m in by_ingest_last for p in m.outputs if p.name in self.defects}
        ingests = [m for m in contents.manifests.values() if m.stage == INGEST]
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
        """Whether an object is broken and not repaired yet."""
        done = self.actions.get(name)
        return name in self.defects and (done is None or done.action == LEFT)

    def _give_up(self, name: str, owner: ManifestSummary) -> None:
        if self.defects[name].kind == "missing":
            self._note(name, PENDING, f"of {owner.about}; {AGAIN}")
            return
        self.store.delete(name)
        self._note(name, REMOVED, f"of {owner.about}; {AGAIN}")

    def _infos(self) -> None:
        contents = read_contents(self.store)
        for name, _, _ in list(info_defects(self.store, contents)):
            folder = name.rpartition("/")[0]
            own = [m for m in contents.manifests.values() if shard_folder_of(m) == folder]
            current = [m for m in contents.current.values() if m in own] or _oldest_first(own)[-1:]
            self.store.put(name, expected_info(self.store, current[0]))
            self._note(name, RESTORED, f"from {current[0].about}")


def _head_of(store: Store, contents: StoreContents, title: str) -> ManifestSummary | None:
    """The manifest that a lost head pointed at: that of the last ingest, else the newest one that is whole.

    The next ingest can continue from an older one; it finds again what was made after it.
    """
    own = [m for m in contents.manifests.values() if m.stage == INGEST and m.corpus == title]
    seen = SourceFingerprint.load(store, title)
    exact = [m for m in own if seen is not None and m.digest == seen.digest]
    parents = {m.parent for m in own}
    last = [m for m in own if m.key not in parents]
    return exact[0] if exact else last[0] if len(last) == 1 else None


def _oldest_first(manifests: Iterable[ManifestSummary]) -> list[ManifestSummary]:
    """Parents before children, as far as the chain between them is among the given ones."""
    by_key = {m.key: m for m in manifests}

    def depth(manifest: ManifestSummary) -> int:
        steps = 0
        while manifest.parent in by_key:
            manifest, steps = by_key[manifest.parent], steps + 1
        return steps

    return sorted(by_key.values(), key=lambda m: (depth(m), m.name))
