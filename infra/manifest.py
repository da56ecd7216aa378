"""Manifests: the commit point of a stage (DESIGN: Identity).

A manifest is one JSON document, written last. It holds no time and no host name, so that equal work
gives an equal digest wherever it ran.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.digest import canonical_json, sha256_bytes


class Output(BaseModel):
    """One stored object of a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name in the store")
    id: str = Field(description="sha256 of the bytes where they repeat, else the key of the unit")
    bytes: int
    sha256: str = Field(description="of the bytes, for verify")
    samples: int = 0
    unit: str = Field("", description="key of the unit that made it")
    meta: dict[str, Any] = Field(default_factory=dict, description="split, teacher, view, ...: small facts")


class Quarantined(BaseModel):
    """One input that a permanent fault keeps out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="file, row or key; a keyed hash where the corpus is private")
    reason: str
    stage: str = ""


class Manifest(BaseModel):
    """What a stage made of what, and what it could not use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    version: int
    key: str
    inputs: list[str]
    section: dict[str, Any]
    outputs: list[Output]
    quarantine: list[Quarantined] = Field(default_factory=list)
    facts: dict[str, Any] = Field(default_factory=dict, description="counts and results worth reading")

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON."""
        return sha256_bytes(self.to_bytes())

    @property
    def name(self) -> str:
        """Name in the store."""
        return manifest_name(self.stage, self.key)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse; ValueError when it is no manifest."""
        return cls.model_validate(json.loads(data))

    def output(self, **meta: Any) -> Output:
        """The one output whose meta has these values; KeyError when there is none or more than one."""
        found = self.outputs_where(**meta)
        if len(found) != 1:
            raise KeyError(f"{self.stage} manifest {self.key[:12]}: {len(found)} outputs with {meta}")
        return found[0]

    def outputs_where(self, **meta: Any) -> list[Output]:
        """Outputs whose meta has these values, in order."""
        return [o for o in self.outputs if all(o.meta.get(k) == v for k, v in meta.items())]


def manifest_name(stage: str, key: str) -> str:
    """Where the manifest of (stage, key) lies."""
    return f"manifests/{stage}/{key}.json"
