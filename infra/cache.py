"""The stage cache: a hit counts only when the bytes are found (DESIGN: Identity).

A stage's manifest is its commit point. While a stage runs, each unit (a shard's worth) leaves a small
record, so that a killed run loses at most the units in flight. Records are hints: a record counts only
when its objects are there with the right size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from infra.digest import canonical_json, sha256_bytes
from infra.errors import CorruptError
from infra.manifest import Manifest, Output, Quarantined, manifest_name
from infra.store import MissingObjectError, Store


@dataclass(frozen=True)
class UnitRecord:
    """What one unit made."""

    key: str
    outputs: tuple[Output, ...]
    quarantine: tuple[Quarantined, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                "key": self.key,
                "outputs": [o.model_dump(mode="json") for o in self.outputs],
                "quarantine": [q.model_dump(mode="json") for q in self.quarantine],
                "facts": self.facts,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> UnitRecord:
        """Parse what `to_bytes` made."""
        raw = json.loads(data)
        return cls(
            raw["key"],
            tuple(Output.model_validate(o) for o in raw["outputs"]),
            tuple(Quarantined.model_validate(q) for q in raw["quarantine"]),
            raw["facts"],
        )


@dataclass(frozen=True)
class Hit:
    """A manifest that was found, and which of its outputs were not."""

    manifest: Manifest
    missing: list[Output] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every output is there."""
        return not self.missing

    @property
    def message(self) -> str:
        """For people: how many outputs were found."""
        total = len(self.manifest.outputs)
        return f"{total - len(self.missing)} of {total} outputs found"


class StageCache:
    """Lookups and commits over one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def lookup(self, stage: str, key: str, *, verify: bool = False) -> Hit | None:
        """The manifest of (stage, key) and what is missing of it; None when there is no manifest.

        Args:
            verify: re-hash every output instead of trusting its size.
        """
        try:
            manifest = Manifest.from_bytes(self.store.get(manifest_name(stage, key)))
        except MissingObjectError:
            return None
        return Hit(manifest, self.missing(manifest.outputs, verify=verify))

    def missing(self, outputs: Iterable[Output], *, verify: bool = False) -> list[Output]:
        """Outputs that are absent, of another size, or (with `verify`) of other bytes."""
        outputs = list(outputs)
        found: dict[str, int] = {}
        for folder in sorted({o.name.rpartition("/")[0] for o in outputs}):
            found.update(self.store.sizes(f"{folder}/"))
        return [
            o
            for o in outputs
            if found.get(o.name) != o.bytes or (verify and sha256_bytes(self.store.get(o.name)) != o.sha256)
        ]

    def record(self, stage: str, record: UnitRecord) -> None:
        """Leave a unit's record; call it after its objects are stored."""
        self.store.put(f"units/{stage}/{record.key}.json", record.to_bytes())

    def recorded(self, stage: str, keys: Iterable[str], *, verify: bool = False) -> dict[str, UnitRecord]:
        """Records of those units whose objects are all there."""
        known = self.store.sizes(f"units/{stage}/")
        records = []
        for key in keys:
            if f"units/{stage}/{key}.json" in known:
                records.append(UnitRecord.from_bytes(self.store.get(f"units/{stage}/{key}.json")))
        absent = {o.name for o in self.missing((o for r in records for o in r.outputs), verify=verify)}
        return {r.key: r for r in records if not any(o.name in absent for o in r.outputs)}

    def commit(self, manifest: Manifest) -> Manifest:
        """Write the manifest, last; CorruptError when one of its outputs is not there."""
        absent = self.missing(manifest.outputs)
        if absent:
            raise CorruptError(f"{manifest.stage}: {len(absent)} outputs not stored, first {absent[0].name}")
        self.store.put(manifest.name, manifest.to_bytes())
        return manifest

    def put_object(self, name: str, data: bytes, *, id: str | None = None, **rest: object) -> Output:
        """Store bytes and describe them; `id` defaults to their sha256, `rest` are fields of Output.

        `{sha8}` and `{sha}` in the name are replaced by the sha256 (first 8 digits or all).
        """
        sha = sha256_bytes(data)
        final = name.replace("{sha8}", sha[:8]).replace("{sha}", sha)
        self.store.put(final, data)
        return Output(name=final, id=id or sha, bytes=len(data), sha256=sha, **rest)
