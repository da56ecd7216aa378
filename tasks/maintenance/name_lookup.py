"""Resolve a name that a user types: a corpus, a key, a shard, a soft-label file, or part of an object's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import UsageError
from infra.storage.manifest import Manifest, Output
from infra.storage.store import Store
from tasks.data.catalog import table_of
from tasks.maintenance.store_contents import read_contents

SHOWN = 5


@dataclass(frozen=True)
class ObjectMatch:
    """An object and the manifest that lists it."""

    manifest: Manifest
    output: Output

    @property
    def kind(self) -> str:
        """shard, soft, catalog, model, ..."""
        return str(self.output.meta.get("kind", "object"))


@dataclass(frozen=True)
class KeyMatch:
    """A row of a corpus's catalog, and its row of the index where a shard holds it."""

    manifest: Manifest
    row: pa.Table
    place: pa.Table


class NameLookup:
    """Looks names up in one store; manifests that heads point at come first."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.contents = read_contents(store)

    @cached_property
    def heads(self) -> dict[str, Manifest]:
        """Title to the corpus's manifest."""
        return {title: self._manifest(m.name) for title, m in sorted(self.contents.current.items())}

    def manifests(self, stage: str) -> Iterator[Manifest]:
        """All manifests of a stage; of ingest those of heads first."""
        current = {m.name for m in self.contents.current.values()}
        own = [m for m in self.contents.manifests.values() if m.stage == stage]
        for summary in sorted(own, key=lambda m: (m.name not in current, m.name)):
            yield self._manifest(summary.name)

    def key(self, key: str) -> KeyMatch | None:
        """The row of an image, in the first corpus that has the key."""
        for manifest in self.heads.values():
            catalog = table_of(self.store, manifest, "catalog")
            row = catalog.filter(pc.equal(catalog["key"], key))
            if len(row):
                index = table_of(self.store, manifest, "index")
                return KeyMatch(manifest, row, index.filter(pc.equal(index["key"], key)))
        return None

    def object(self, part: str) -> ObjectMatch:
        """The one object whose name is, or contains, `part`.

        Raises:
            UsageError: there is none, or several; some are named.
        """
        current = {m.name for m in self.contents.current.values()}
        owner: dict[str, str] = {}
        for summary in sorted(self.contents.manifests.values(), key=lambda m: (m.name not in current, m.name)):
            for expected in summary.outputs:
                if part in expected.name:
                    owner.setdefault(expected.name, summary.name)
        chosen = [part] if part in owner else sorted(owner)
        if len(chosen) != 1:
            some = ", ".join(chosen[:SHOWN]) + (", ..." if len(chosen) > SHOWN else "")
            what = f"{len(chosen)} objects have it in their name: {some}" if chosen else "no object has it in its name"
            corpora = ", ".join(self.contents.current) or "none"
            raise UsageError(f"{part!r} is neither a corpus ({corpora}) nor a key of one, and {what}")
        manifest = self._manifest(owner[chosen[0]])
        return ObjectMatch(manifest, next(o for o in manifest.outputs if o.name == chosen[0]))

    def _manifest(self, name: str) -> Manifest:
        return Manifest.from_bytes(self.store.get(name), name)
