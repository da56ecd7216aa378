"""The stage cache: a hit counts only when the bytes are found (DESIGN: Identity).

A stage's manifest is its commit point. While a stage runs, each unit (a shard's worth) leaves a small
record, so that a killed run loses at most the units in flight. Records are hints: a record counts only
when it is whole and its objects are there with the right size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import ValidationError

from infra.digest import sha256_bytes
from infra.errors import CorruptError
from infra.storage.manifest import REMEDY, Manifest, Output, Quarantined, manifest_name, seal, unseal
from infra.storage.store import MissingObjectError, Store

_log = logging.getLogger(__name__)
_READERS, _TOGETHER = 8, 256  # threads that read records, and how many records are in memory at once


def read_output(store: Store, output: Output) -> bytes:
    """An output's bytes, compared with its sha256; CorruptError names the object."""
    data = store.get(output.name)
    if sha256_bytes(data) != output.sha256:
        raise CorruptError(f"{store.url}/{output.name} is not the object that its manifest names; {REMEDY}")
    return data


@dataclass(frozen=True)
class UnitRecord:
    """What one unit made."""

    key: str
    outputs: tuple[Output, ...]
    quarantine: tuple[Quarantined, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON with its digest, as stored."""
        return seal(
            {
                "key": self.key,
                "outputs": [o.model_dump(mode="json") for o in self.outputs],
                "quarantine": [q.model_dump(mode="json") for q in self.quarantine],
                "facts": self.facts,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "unit record") -> UnitRecord:
        """Parse what `to_bytes` made.

        Raises:
            CorruptError: a byte differs from what was written; the text begins with `name`.
        """
        raw = unseal(data, name)
        try:
            return cls(
                raw["key"],
                tuple(Output.model_validate(o) for o in raw["outputs"]),
                tuple(Quarantined.model_validate(q) for q in raw["quarantine"]),
                raw["facts"],
            )
        except (KeyError, TypeError, ValidationError):
            raise CorruptError(f"{name}: no unit record of this release; {REMEDY}") from None


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

        A damaged manifest counts as none: all that it says follows from its key, so the stage is made again from
        what is stored, and its commit overwrites the damage. `stillroom verify` reports it until then.

        Args:
            verify: re-hash every output instead of trusting its size.
        """
        name = manifest_name(stage, key)
        try:
            manifest = Manifest.from_bytes(self.store.get(name), name)
        except MissingObjectError:
            return None
        except CorruptError as error:
            _log.warning("%s; its stage is made again", error)
            return None
        return Hit(manifest, self.missing(manifest.outputs, verify=verify))

    def missing(self, outputs: Iterable[Output], *, verify: bool = False) -> list[Output]:
        """Outputs that are absent, of another size, or (with `verify`) of other bytes."""
        outputs = list(outputs)
        found: dict[str, int] = {}
        for folder in sorted({o.name.rpartition("/")[0] for o in outputs}):
            found.update(self.store.sizes(f"{folder}/"))
        return [o for o in outputs if found.get(o.name) != o.bytes or (verify and self._digest(o) != o.sha256)]

    def record(self, stage: str, record: UnitRecord) -> None:
        """Leave a unit's record; call it after its objects are stored."""
        self.store.put(unit_name(stage, record.key), record.to_bytes())

    def recorded(self, stage: str, keys: Iterable[str], *, verify: bool = False) -> dict[str, UnitRecord]:
        """Whole records of those units whose objects are all there."""
        return {record.key: record for record in self.each_recorded(stage, keys, verify=verify)}

    def each_recorded(self, stage: str, keys: Iterable[str], *, verify: bool = False) -> Iterator[UnitRecord]:
        """Like `recorded`, one at a time, so that the records of a large stage never stand in memory together."""
        known = self.store.sizes(f"units/{stage}/")
        names = (unit_name(stage, key) for key in keys)
        waiting = (name for name in names if name in known)
        found: dict[str, dict[str, int]] = {}

        def there(output: Output) -> bool:
            folder = f"{output.name.rpartition('/')[0]}/"
            if folder not in found:
                found[folder] = self.store.sizes(folder)
            size = found[folder].get(output.name)
            return size == output.bytes and not (verify and self._digest(output) != output.sha256)

        with ThreadPoolExecutor(_READERS) as pool:
            while some := list(islice(waiting, _TOGETHER)):
                for record in pool.map(self._unit, some):
                    if record is not None and all(there(output) for output in record.outputs):
                        yield record

    def _unit(self, name: str) -> UnitRecord | None:
        try:
            return UnitRecord.from_bytes(self.store.get(name), name)
        except (CorruptError, MissingObjectError):
            return None

    def _digest(self, output: Output) -> str:
        return sha256_bytes(self.store.get(output.name))

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


def unit_name(stage: str, key: str) -> str:
    """Where the record of a unit lies."""
    return f"units/{stage}/{key}.json"
